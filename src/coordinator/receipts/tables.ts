/** Signed receipts, and every public key that ever signed one. */
import { bigint, text, uniqueIndex } from 'drizzle-orm/pg-core';
import { coordinator, moment } from '../pg-schema.ts';

/** Keys stay when they are no longer used, so that what they signed still verifies. */
export const receiptKeys = coordinator.table('receipt_keys', {
  /** The public key in base64url. */
  keyId: text('key_id').primaryKey(),
  use: text('use').$type<'signing' | 'attestation'>().notNull(),
  createdAt: moment('created_at').notNull().defaultNow(),
});

/** At most one for each job. No foreign key to the jobs: a receipt outlives its job. */
export const receipts = coordinator.table(
  'receipts',
  {
    /** Order of issue, for pages. */
    seq: bigint('seq', { mode: 'number' }).generatedAlwaysAsIdentity().notNull(),
    receiptId: text('receipt_id').primaryKey(),
    jobId: text('job_id').notNull(),
    clientId: text('client_id').notNull(),
    keyId: text('key_id')
      .notNull()
      .references(() => receiptKeys.keyId),
    /** JSON text, not json: another 1.0 than the signed one would not verify. */
    body: text('body').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [uniqueIndex('idx_receipts_job').on(table.jobId)],
);
