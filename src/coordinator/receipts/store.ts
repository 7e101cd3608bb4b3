import { and, asc, desc, eq, gt, inArray, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { jobs } from '../jobs/tables.ts';
import { receiptKeys, receipts } from './tables.ts';

/** A stored receipt. */
export interface StoredReceipt {
  /** Order of issue. */
  readonly seq: number;
  /** JSON, as it was signed. */
  readonly body: string;
}

export type KeyRow = typeof receiptKeys.$inferSelect;

/** Whether there is or was such a job of this client: a receipt outlives its job. */
export async function isJobOf(orm: Orm, jobId: string, clientId: string): Promise<boolean> {
  const rows = await orm.execute(sql`
    select 1 as one from ${jobs} where job_id = ${jobId} and client_id = ${clientId}
    union all select 1 from ${receipts} where job_id = ${jobId} and client_id = ${clientId} limit 1`);
  return rows.length > 0;
}

/** The receipts of a job, oldest first, after `afterSeq`. */
export async function listReceipts(
  orm: Orm,
  jobId: string,
  afterSeq: number,
  limit: number,
): Promise<StoredReceipt[]> {
  return orm
    .select({ seq: receipts.seq, body: receipts.body })
    .from(receipts)
    .where(and(eq(receipts.jobId, jobId), gt(receipts.seq, afterSeq)))
    .orderBy(asc(receipts.seq))
    .limit(limit);
}

/** Those of these keys that ever signed a receipt here. */
export async function findKeys(orm: Orm, keyIds: readonly string[]): Promise<string[]> {
  if (keyIds.length === 0) return [];
  const rows = await orm
    .select({ keyId: receiptKeys.keyId })
    .from(receiptKeys)
    .where(inArray(receiptKeys.keyId, [...keyIds]));
  return rows.map(({ keyId }) => keyId);
}

/** Every key that ever signed, oldest first, at most `limit`. */
export async function listKeys(orm: Orm, limit: number): Promise<KeyRow[]> {
  return orm
    .select()
    .from(receiptKeys)
    .orderBy(asc(receiptKeys.createdAt), desc(receiptKeys.use), asc(receiptKeys.keyId))
    .limit(limit);
}
