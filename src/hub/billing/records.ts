/** Uses that somebody reports, and sums of all. */
import { createHash } from 'node:crypto';
import { eq, sql } from 'drizzle-orm';
import type * as v from 'valibot';
import type { Database, Orm } from '../../platform/db.ts';
import { isDataError, isOutOfRange } from '../../platform/db-errors.ts';
import { AppError, invalidAt } from '../../platform/errors.ts';
import { type PriceSettings, priceOf, RESOURCES } from './prices.ts';
import type { RecordAnswer, RecordRequest, UsageReport } from './schema.ts';
import { countUnsent, within } from './store.ts';
import { usageRecords } from './tables.ts';

type Request = v.InferOutput<typeof RecordRequest>;

const HOUR_MS = 3_600_000;
const TOP_TENANTS = 10;

/**
 * Stores a reported use. Under one `key` there is one record: the same report again is a duplicate.
 * @throws AppError `invalid` without a price, or for what cannot be stored; `conflict` when another use has the key
 */
export async function recordUse(
  db: Database,
  prices: PriceSettings,
  request: Request,
  key: string | undefined,
): Promise<v.InferOutput<typeof RecordAnswer>> {
  const resource = RESOURCES.find((name) => name === request.resource_type);
  const unitPrice = request.unit_price ?? (resource === undefined ? undefined : priceOf(prices, resource));
  if (unitPrice === undefined) throw invalidAt('unit_price', 'is needed for a resource without a price');
  const requestKey = key === undefined ? null : sha256(key);
  const requestDigest = sha256(JSON.stringify(Object.entries(request).sort(([a], [b]) => (a < b ? -1 : 1))));
  try {
    const stored = await db.run((orm) => insert(orm, request, unitPrice, requestKey, requestDigest));
    if (stored !== undefined) return { ...stored, duplicate: false };
  } catch (error) {
    if (isOutOfRange(error)) throw invalidAt('quantity', 'quantity * unit_price is too large');
    // Of all fields only this one may hold any text.
    if (isDataError(error)) throw invalidAt('metadata', 'holds a text that cannot be stored');
    throw error;
  }
  const before = await db.run((orm) => findByKey(orm, requestKey ?? ''));
  if (before?.digest !== requestDigest)
    throw new AppError('conflict', 'another use was reported under this Idempotency-Key');
  return { ...before.answer, duplicate: true };
}

/**
 * Sums of the last hours, of one tenant or of all. The records are gone through once, by all workers that Postgres has, for the sums of each
 * tenant and resource; the three ways of summing up are of those.
 */
export async function reportUsage(
  db: Database,
  tenantId: string | undefined,
  hours: number,
): Promise<v.InferOutput<typeof UsageReport>> {
  const end = new Date();
  const start = new Date(end.getTime() - hours * HOUR_MS);
  const window = { tenantId, from: start };
  const rows = await db.run((orm) =>
    orm.execute<Record<string, string | null>>(sql`
      with cells as materialized (
        select tenant_id, resource_type, sum(quantity) as quantity, sum(total_amount) as amount, count(*) as records,
          count(sent_at) as sent
        from ${usageRecords} where ${within(window)} group by tenant_id, resource_type
      ), summed as (
        select tenant_id, resource_type, grouping(tenant_id) as no_tenant, grouping(resource_type) as no_resource,
          sum(quantity) as quantity, sum(amount) as amount, sum(records) as records, sum(sent) as sent
        from cells group by grouping sets ((resource_type), (tenant_id), ())
      )
      select resource_type, null as tenant_id, no_tenant, no_resource, trim_scale(quantity)::text as quantity,
        trim_scale(coalesce(amount, 0))::text as amount, records, sent
      from summed where no_tenant = 1
      union all (
        select null, tenant_id, 0, 1, null, trim_scale(amount)::text, records, sent
        from summed where no_tenant = 0 order by summed.amount desc, tenant_id limit ${TOP_TENANTS}
      )`),
  );
  const unsent = await db.run((orm) => countUnsent(orm, window));
  const total = rows.find((row) => Number(row.no_tenant) === 1 && Number(row.no_resource) === 1);
  return {
    tenant_id: tenantId ?? null,
    period: { start: start.toISOString(), end: end.toISOString(), hours },
    currency: 'USD',
    total_amount: total?.amount ?? '0',
    records: Number(total?.records ?? 0),
    by_resource: rows
      .filter((row) => Number(row.no_resource) === 0)
      .map((row) => ({
        resource_type: String(row.resource_type),
        quantity: String(row.quantity),
        total_amount: String(row.amount),
        records: Number(row.records),
      }))
      .sort((a, b) => (a.resource_type < b.resource_type ? -1 : 1)),
    by_tenant: rows
      .filter((row) => Number(row.no_tenant) === 0)
      .map((row) => ({
        tenant_id: row.tenant_id ?? null,
        total_amount: String(row.amount),
        records: Number(row.records),
      })),
    sync: {
      sent: Number(total?.sent ?? 0),
      unsent: unsent.records,
      failing: unsent.failing,
      refused: unsent.refused,
      last_error: unsent.lastError,
    },
  };
}

type Stored = Omit<v.InferOutput<typeof RecordAnswer>, 'duplicate'>;

/** @returns undefined when the key is taken */
async function insert(
  orm: Orm,
  request: Request,
  unitPrice: string,
  requestKey: string | null,
  requestDigest: string,
): Promise<Stored | undefined> {
  const metadata = {
    ...request.metadata,
    ...(request.miner_id === undefined ? {} : { miner_id: request.miner_id }),
  };
  const usedAt = (request.timestamp ?? new Date()).toISOString();
  const [row] = await orm.execute<{ id: string; total: string }>(sql`
    insert into ${usageRecords} (request_key, request_digest, tenant_id, miner_id, job_id, resource_type, quantity,
      unit_price, total_amount, metadata, used_at)
    values (${requestKey}, ${requestDigest}, ${request.tenant_id}, ${request.miner_id ?? null},
      ${request.job_id ?? null}, ${request.resource_type}, ${request.quantity}::numeric, ${unitPrice}::numeric,
      round(${request.quantity}::numeric * ${unitPrice}::numeric, 8), ${JSON.stringify(metadata)}::jsonb,
      ${usedAt}::timestamptz)
    on conflict (request_key) do nothing
    returning id, trim_scale(total_amount)::text as total`);
  return row === undefined ? undefined : answerOf(row.id, unitPrice, row.total);
}

async function findByKey(
  orm: Orm,
  requestKey: string,
): Promise<{ digest: string | null; answer: Stored } | undefined> {
  const [row] = await orm
    .select({
      id: usageRecords.id,
      digest: usageRecords.requestDigest,
      unitPrice: sql<string>`trim_scale(${usageRecords.unitPrice})::text`,
      total: sql<string>`trim_scale(${usageRecords.totalAmount})::text`,
    })
    .from(usageRecords)
    .where(eq(usageRecords.requestKey, requestKey));
  return row === undefined
    ? undefined
    : { digest: row.digest, answer: answerOf(row.id, row.unitPrice, row.total) };
}

function answerOf(id: string, unit_price: string, total_amount: string): Stored {
  return { status: 'ok', id, unit_price, total_amount, currency: 'USD' };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
