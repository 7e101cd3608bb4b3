import * as v from 'valibot';
import { body, integer, jsonObject, maybe, moment, money, pattern, words } from '../../platform/fields.ts';
import { JobId, MinerId } from '../miners/schema.ts';

const MAX_HOURS = 24 * 366;
const DEFAULT_HOURS = 24;
const MAX_PAGE = 1_000;
const DEFAULT_PAGE = 100;
const MAX_METADATA_CHARS = 8_192;

const TenantId = words(1, 128);

const Moment = v.pipe(
  moment(),
  v.transform((text) => new Date(text)),
);

/** What an Idempotency-Key may be. */
export const RequestKey = pattern(/^[\x21-\x7e]{1,256}$/, 'must have 1 to 256 characters and no blanks');

export const UsageQuery = v.object({
  tenant_id: v.optional(TenantId),
  hours: v.pipe(
    v.optional(v.pipe(v.string(), v.regex(/^\d{1,9}$/, 'must be a whole number')), String(DEFAULT_HOURS)),
    v.transform(Number),
    integer(1, MAX_HOURS),
    v.description('how far to look back'),
  ),
});

const sums = { quantity: v.string(), total_amount: v.string(), records: v.number() };

export const UsageReport = v.pipe(
  v.object({
    tenant_id: v.nullable(v.string()),
    period: v.object({ start: v.string(), end: v.string(), hours: v.number() }),
    currency: v.literal('USD'),
    total_amount: v.string(),
    records: v.number(),
    by_resource: v.array(v.object({ resource_type: v.string(), ...sums })),
    by_tenant: v.pipe(
      v.array(
        v.object({
          tenant_id: v.pipe(
            v.nullable(v.string()),
            v.description('null while the profile of the miner is not stored'),
          ),
          total_amount: v.string(),
          records: v.number(),
        }),
      ),
      v.description('the ten with the highest amount'),
    ),
    sync: v.object({
      sent: v.number(),
      unsent: v.number(),
      failing: v.pipe(v.number(), v.description('unsent ones that were tried')),
      refused: v.pipe(v.number(), v.description('those of them that the coordinator said no to')),
      last_error: v.nullable(v.string()),
    }),
  }),
  v.metadata({ ref: 'UsageReport' }),
);

export const SyncRequest = v.pipe(
  body({
    miner_id: maybe(MinerId),
    hours_back: v.pipe(
      v.nullish(integer(1, MAX_HOURS), DEFAULT_HOURS),
      v.description('of the use, not of the record'),
    ),
  }),
  v.metadata({ ref: 'BillingSyncRequest' }),
);

export const SyncAnswer = v.pipe(
  v.object({
    status: v.pipe(
      v.picklist(['synced', 'pending']),
      v.description('pending: the worker goes on with what is unsent'),
    ),
    released: v.pipe(v.number(), v.description('records that waited for a sync')),
    retried: v.pipe(v.number(), v.description('records that were put off, and are tried again now')),
    sent: v.pipe(v.number(), v.description('accepted by the coordinator since the call began')),
    unsent: v.number(),
    failing: v.pipe(v.number(), v.description('unsent ones that were tried')),
    refused: v.pipe(v.number(), v.description('those of them that the coordinator said no to')),
    last_error: v.nullable(v.string()),
    hint: v.pipe(v.nullable(v.string()), v.description('what has to happen first, null when nothing has')),
  }),
  v.metadata({ ref: 'BillingSync' }),
);

export const FailuresQuery = v.object({
  state: v.pipe(
    v.optional(v.picklist(['refused', 'failing'])),
    v.description(
      'refused: the coordinator said no to the record; failing: it said nothing that is about it',
    ),
  ),
  tenant_id: v.optional(TenantId),
  miner_id: v.optional(MinerId),
  limit: v.pipe(
    v.optional(v.pipe(v.string(), v.regex(/^\d{1,4}$/, 'must be a whole number')), String(DEFAULT_PAGE)),
    v.transform(Number),
    integer(1, MAX_PAGE),
  ),
  cursor: v.optional(
    pattern(/^\d{1,15}\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'must be a cursor that this call gave'),
  ),
});

export const FailuresAnswer = v.array(
  v.pipe(
    v.object({
      id: v.pipe(v.string(), v.description('also its Idempotency-Key at the coordinator')),
      state: v.picklist(['refused', 'failing']),
      last_error: v.string(),
      attempts: v.number(),
      next_attempt_at: v.pipe(v.string(), v.description('POST …/billing/sync tries it at once')),
      tenant_id: v.string(),
      miner_id: v.nullable(v.string()),
      job_id: v.nullable(v.string()),
      resource_type: v.string(),
      quantity: v.string(),
      unit_price: v.string(),
      total_amount: v.string(),
      timestamp: v.string(),
    }),
    v.metadata({ ref: 'UsageFailure' }),
  ),
);

export const RecordRequest = v.pipe(
  body({
    tenant_id: TenantId,
    resource_type: pattern(/^[a-z][a-z0-9_]{0,63}$/, 'must be 1-64 of a-z 0-9 _, a letter first'),
    quantity: money(),
    unit_price: v.pipe(maybe(money()), v.description('USD; without it that of the settings')),
    miner_id: maybe(MinerId),
    job_id: maybe(JobId),
    timestamp: v.pipe(maybe(Moment), v.description('when it was used; now without it')),
    metadata: maybe(jsonObject(MAX_METADATA_CHARS)),
  }),
  v.metadata({
    ref: 'UsageRecordRequest',
    examples: [{ tenant_id: 'tenant-1', resource_type: 'gpu_hours', quantity: '1.25' }],
  }),
);

export const RecordAnswer = v.pipe(
  v.object({
    status: v.literal('ok'),
    id: v.string(),
    duplicate: v.boolean(),
    unit_price: v.string(),
    total_amount: v.string(),
    currency: v.literal('USD'),
  }),
  v.metadata({ ref: 'UsageRecorded' }),
);

export const InvoiceRequest = v.pipe(
  body({
    tenant_id: TenantId,
    period_start: Moment,
    period_end: v.pipe(Moment, v.description('not part of the period any more')),
  }),
  v.forward(
    v.check(({ period_start, period_end }) => period_start < period_end, 'must be after period_start'),
    ['period_end'],
  ),
  v.metadata({ ref: 'InvoiceRequest' }),
);

export const InvoiceAnswer = v.pipe(
  v.looseObject({ invoice_number: v.string() }),
  v.description('the invoice, as the coordinator gave it'),
  v.metadata({ ref: 'Invoice' }),
);
