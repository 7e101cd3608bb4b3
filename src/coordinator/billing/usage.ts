/** Takes reports of use: each once, however often and from wherever it is sent. */
import { eq, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { isUniqueViolation } from '../../platform/db-errors.ts';
import { AppError, invalidAt } from '../../platform/errors.ts';
import { isProduct, product } from './decimals.ts';
import { countUse, limitOf, quotaExceeded } from './quota.ts';
import { usageRecords } from './tables.ts';
import type { UsageBody } from './usage-body.ts';
import { digestOf, insertUsage, JOB_RECORD_PREFIX, type UsageRecord } from './usage-record.ts';

export interface RecordedUsage {
  readonly record: UsageRecord;
  readonly duplicate: boolean;
}

/** Begins the ids of records that came without one. */
const CONTENT_PREFIX = 'content:';

/**
 * The record of a report.
 * @param key the `Idempotency-Key`, which is the id of the record
 * @throws AppError `invalid` for two ids, an id that is ours, or an amount that is not quantity * price
 */
export function recordOf({ request, metadataText }: UsageBody, key: string | undefined): UsageRecord {
  const id = idOf(request.id, key);
  const { quantity, unit_price: unitPrice } = request;
  const totalAmount = request.total_amount ?? product(quantity, unitPrice);
  if (totalAmount === undefined) throw invalidAt('total_amount', 'quantity * unit_price is too large');
  if (!isProduct(totalAmount, quantity, unitPrice))
    throw invalidAt('total_amount', 'must be quantity * unit_price, up to the eighth decimal');
  const record: UsageRecord = {
    id: id ?? '',
    tenantId: request.tenant_id,
    resourceType: request.resource_type,
    quantity,
    unitPrice,
    totalAmount,
    currency: request.currency,
    jobId: request.job_id ?? null,
    metadata: metadataText,
    usedAt: request.timestamp,
  };
  return id === undefined ? { ...record, id: `${CONTENT_PREFIX}${digestOf(record)}` } : record;
}

/**
 * Stores a record in one statement with its count against the plan of the tenant.
 * @throws AppError `conflict` when another record has its id, `quota_exceeded` when the plan gives no more
 */
export async function recordUsage(orm: Orm, record: UsageRecord): Promise<RecordedUsage> {
  try {
    const rows = await orm.execute(sql`
      with usage_limit as (${limitOf(record)}),
      usage_count as (${countUse(record, sql`usage_limit`, true)})
      ${insertUsage(record, sql`where not exists (select from usage_limit) or exists (select from usage_count)`)}`);
    if (rows.length > 0) return { record, duplicate: false };
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
  }
  // Nothing was written: the record is there already, or there is no room for it.
  const [stored] = await orm
    .select({ digest: usageRecords.digest })
    .from(usageRecords)
    .where(eq(usageRecords.id, record.id));
  if (stored === undefined) throw quotaExceeded(record.resourceType);
  if (stored.digest !== digestOf(record)) throw new AppError('conflict', 'another usage record has this id');
  return { record, duplicate: true };
}

function idOf(own: string | undefined, key: string | undefined): string | undefined {
  if (own !== undefined && key !== undefined && own !== key)
    throw invalidAt('id', 'must be the Idempotency-Key where both are given');
  const id = own ?? key;
  if (id?.startsWith(JOB_RECORD_PREFIX) === true || id?.startsWith(CONTENT_PREFIX) === true)
    throw invalidAt('id', `must not start with ${JOB_RECORD_PREFIX} or ${CONTENT_PREFIX}`);
  return id;
}
