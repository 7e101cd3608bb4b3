import * as v from 'valibot';
import { body, hasExistingDay, jsonObject, maybe, money, pattern, words } from '../../platform/fields.ts';
import { DEFAULT_CURRENCY } from './usage-record.ts';

const MAX_METADATA_CHARS = 16_384;
const MAX_HOURS = 366 * 24;
const DEFAULT_HOURS = '24';
const MAX_LIMITS = 64;

/** As wide as the pool hub's: what it takes for a tenant or job must not be refused here. */
const TenantId = words(1, 128);
const JobId = words(1, 128);
const ResourceType = pattern(/^[a-z][a-z0-9_]{0,63}$/, 'must be 1-64 of a-z 0-9 _, a letter first');
const Currency = pattern(/^[A-Za-z0-9]{1,16}$/, 'must be 1-16 letters and digits');
const PlanName = pattern(/^[a-z][a-z0-9_-]{0,31}$/, 'must be 1-32 of a-z 0-9 _ -, a letter first');

/** What an `Idempotency-Key` or `id` of a usage record may be; without one, the same body is the same record. */
export const RecordId = pattern(/^[A-Za-z0-9._:-]{1,128}$/, 'must be 1-128 of A-Z a-z 0-9 . _ : -');

/** Years that a moment may be in; others are mistakes. */
const FIRST_YEAR = 2000;
const LAST_YEAR = 2200;

const ISO = /^(\d{4})-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?)?$/;

/** A moment in ISO 8601; without an offset it is in UTC, which is what senders in Python mean. */
const Moment = v.pipe(
  v.string(),
  v.check((text) => parseMoment(text) !== undefined, 'must be a moment like 2026-01-31T12:00:00Z'),
  v.transform((text) => parseMoment(text) as Date),
);

/** Decimals come as strings here: the texts of numbers were turned into them, see usage-body.ts. */
export const UsageRequest = v.pipe(
  body(
    {
      id: v.pipe(maybe(RecordId), v.description('instead of the Idempotency-Key header')),
      tenant_id: TenantId,
      event_type: v.optional(v.literal('usage'), 'usage'),
      resource_type: ResourceType,
      quantity: money(),
      unit_price: money(),
      total_amount: v.pipe(maybe(money()), v.description('quantity * unit_price, which is taken without it')),
      currency: v.optional(Currency, DEFAULT_CURRENCY),
      timestamp: Moment,
      metadata: maybe(jsonObject(MAX_METADATA_CHARS)),
      job_id: maybe(JobId),
    },
    { record_id: 'id' },
  ),
  v.metadata({
    ref: 'UsageRequest',
    examples: [
      {
        tenant_id: 'tenant-1',
        event_type: 'usage',
        resource_type: 'gpu_hours',
        quantity: '1.25',
        unit_price: '0.5',
        total_amount: '0.625',
        currency: 'USD',
        timestamp: '2026-01-31T12:00:00Z',
        metadata: { miner_id: 'miner-1' },
      },
    ],
  }),
);

export const UsageAnswer = v.pipe(
  v.object({
    status: v.literal('ok'),
    id: v.string(),
    duplicate: v.pipe(v.boolean(), v.description('the record was there already')),
    tenant_id: v.string(),
    total_amount: v.string(),
    currency: v.string(),
  }),
  v.metadata({ ref: 'UsageAnswer' }),
);

export const MetricsQuery = body({
  hours: v.optional(
    v.pipe(
      pattern(/^\d{1,5}$/, 'must be a whole number'),
      v.transform(Number),
      v.minValue(1, 'must be at least 1'),
      v.maxValue(MAX_HOURS, `must be at most ${MAX_HOURS}`),
    ),
    DEFAULT_HOURS,
  ),
  tenant_id: maybe(TenantId),
  currency: v.optional(Currency, DEFAULT_CURRENCY),
});

const sums = { quantity: v.string(), cost: v.string(), records: v.number() };

export const MetricsAnswer = v.pipe(
  v.object({
    period: v.object({ start: v.string(), end: v.string(), hours: v.number() }),
    currency: v.string(),
    totals: v.object({ ...sums, active_tenants: v.number() }),
    by_resource: v.array(v.object({ resource_type: v.string(), ...sums })),
    top_tenants: v.pipe(
      v.array(v.object({ tenant_id: v.string(), ...sums })),
      v.description('the ten with the highest cost'),
    ),
    daily_trend: v.array(v.object({ date: v.string(), ...sums })),
  }),
  v.metadata({ ref: 'BillingMetrics' }),
);

export const InvoiceRequest = v.pipe(
  body({
    tenant_id: TenantId,
    period_start: Moment,
    period_end: v.pipe(Moment, v.description('not part of the period any more')),
    currency: v.optional(Currency, DEFAULT_CURRENCY),
  }),
  v.forward(
    v.check(({ period_start, period_end }) => period_start < period_end, 'must be after period_start'),
    ['period_end'],
  ),
  v.metadata({
    ref: 'InvoiceRequest',
    examples: [
      { tenant_id: 'tenant-1', period_start: '2026-01-01T00:00:00Z', period_end: '2026-02-01T00:00:00Z' },
    ],
  }),
);

export const InvoiceAnswer = v.pipe(
  v.object({
    invoice_number: v.string(),
    status: v.literal('draft'),
    tenant_id: v.string(),
    period_start: v.string(),
    period_end: v.string(),
    line_items: v.array(
      v.object({
        resource_type: v.string(),
        quantity: v.string(),
        unit_price: v.pipe(v.nullable(v.string()), v.description('null when the records have several')),
        amount: v.string(),
        records: v.number(),
        late: v.pipe(
          v.optional(v.literal(true)),
          v.description('used in former periods, and reported after those were invoiced'),
        ),
      }),
    ),
    subtotal: v.string(),
    tax_rate: v.string(),
    tax: v.string(),
    total_amount: v.string(),
    currency: v.string(),
    due_date: v.string(),
    created_at: v.string(),
  }),
  v.metadata({ ref: 'Invoice' }),
);

export const InvoiceParams = body({
  invoice_number: pattern(/^INV-.{1,128}-\d{8}-\d{4,10}$/u, 'must be an invoice number'),
});

export const PlanParams = body({ plan: PlanName });

export const PlanRequest = v.pipe(
  body({
    limits: v.pipe(
      v.record(ResourceType, money()),
      v.check((limits) => Object.keys(limits).length > 0, 'must have at least 1 limit'),
      v.check((limits) => Object.keys(limits).length <= MAX_LIMITS, `must have at most ${MAX_LIMITS} limits`),
      v.description('quantity per calendar month (UTC) by resource; what is not named is not limited'),
    ),
  }),
  v.metadata({ ref: 'PlanRequest', examples: [{ limits: { gpu_hours: '100', jobs: '5000' } }] }),
);

export const PlanAnswer = v.pipe(
  v.object({ plan: v.string(), limits: v.record(v.string(), v.string()) }),
  v.metadata({ ref: 'Plan' }),
);

export const TenantParams = body({ tenant_id: TenantId });

export const TenantRequest = v.pipe(
  body({ plan: v.pipe(v.nullable(PlanName), v.description('null takes all limits away')) }),
  v.metadata({ ref: 'TenantRequest', examples: [{ plan: 'small' }] }),
);

export const TenantAnswer = v.pipe(
  v.object({
    tenant_id: v.string(),
    plan: v.nullable(v.string()),
    month: v.string(),
    limits: v.array(
      v.object({
        resource_type: v.string(),
        limit: v.string(),
        used: v.pipe(
          v.string(),
          v.description('what is done; of jobs, those under way count against the limit too'),
        ),
      }),
    ),
  }),
  v.metadata({ ref: 'Tenant' }),
);

function parseMoment(text: string): Date | undefined {
  const [, year, offset] = ISO.exec(text) ?? [];
  if (year === undefined || Number(year) < FIRST_YEAR || Number(year) > LAST_YEAR || !hasExistingDay(text))
    return undefined;
  // A date alone is UTC for Date.parse; a moment without an offset would be local time.
  const parsed = new Date(text.length > 10 && offset === undefined ? `${text}Z` : text);
  return Number.isNaN(parsed.getTime()) ? undefined : parsed;
}
