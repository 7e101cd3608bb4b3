import { createHash } from 'node:crypto';
import { type SQL, sql } from 'drizzle-orm';
import { parseJsonText, sortedJsonText } from '../receipts/json-text.ts';
import { usageRecords } from './tables.ts';

/** One use, as it is stored. Decimals are strings with at most 8 decimals. */
export interface UsageRecord {
  readonly id: string;
  readonly tenantId: string;
  readonly resourceType: string;
  readonly quantity: string;
  readonly unitPrice: string;
  readonly totalAmount: string;
  readonly currency: string;
  readonly jobId: string | null;
  /** JSON. */
  readonly metadata: string | null;
  readonly usedAt: Date;
}

export const DEFAULT_CURRENCY = 'USD';

/** What a completed job is counted as; one each. */
export const JOBS_RESOURCE = 'jobs';

/** Begins the ids of the records of completed jobs; nobody else may report under such an id. */
export const JOB_RECORD_PREFIX = 'job:';

/** Two reports under one id are the same when their digests are; the order of the keys in their metadata means nothing. */
export function digestOf(record: UsageRecord): string {
  const { usedAt, metadata: text, ...rest } = record;
  const metadata = text === null ? null : sortedJsonText(parseJsonText(text));
  const fields = Object.entries({ ...rest, metadata, usedAt: usedAt.toISOString() }).sort(([a], [b]) =>
    a < b ? -1 : 1,
  );
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

/** Stores a record if the relation or condition after it lets it. @param from what stands after the values: `from ...` or `where ...` */
export function insertUsage(record: UsageRecord, from: SQL): SQL {
  return sql`insert into ${usageRecords} (id, tenant_id, resource_type, quantity, unit_price, total_amount, currency,
      job_id, metadata, digest, used_at)
    select ${record.id}, ${record.tenantId}, ${record.resourceType}, ${record.quantity}::numeric,
      ${record.unitPrice}::numeric, ${record.totalAmount}::numeric, ${record.currency}, ${record.jobId},
      ${record.metadata}, ${digestOf(record)}, ${record.usedAt.toISOString()}::timestamptz
    ${from}
    returning id`;
}
