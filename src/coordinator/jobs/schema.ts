import * as v from 'valibot';
import { body, jsonObject, listOf, maybe, money, pattern, quantity, words } from '../../platform/fields.ts';
import { JOB_STATES } from './states.ts';

/** Characters of a payload or result as JSON; MAX_BODY_BYTES bounds the whole body. */
const MAX_JSON_CHARS = 16_777_216;
const MAX_TTL_SEC = 30 * 86_400;
const MAX_VRAM_GB = 1_048_576;
const MAX_MODELS = 16;
const MAX_PAGE = 200;
const DEFAULT_PAGE = 50;

const JobId = pattern(/^[0-9a-f]{32}$/, 'must be 32 hexadecimal digits');
const State = v.picklist(JOB_STATES, `must be one of ${JOB_STATES.join(', ')}`);

/** What a job asks of a miner. */
const Constraints = body({
  gpu: v.pipe(maybe(words(1, 128)), v.description('the name of a GPU, in any case')),
  cuda: v.pipe(
    maybe(v.union([v.boolean(), words(1, 32)], 'must be true or a version like 12.4')),
    v.description('true, or the version that is needed at least'),
  ),
  min_vram_gb: maybe(quantity(0, MAX_VRAM_GB)),
  models: v.pipe(maybe(listOf(words(1, 128), MAX_MODELS)), v.description('any of these')),
  region: v.pipe(
    maybe(pattern(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1-64 letters, digits, ., _ or -')),
    v.description('exact, or a dash prefix: eu takes eu-west'),
  ),
  max_price: v.pipe(maybe(money()), v.description('tokens per 1,000 seconds')),
});

export const SubmitRequest = v.pipe(
  body({
    payload: v.pipe(jsonObject(MAX_JSON_CHARS), v.description('what the miner gets, as it is')),
    constraints: v.optional(Constraints, {}),
    ttl_seconds: v.optional(quantity(0.001, MAX_TTL_SEC), 900),
    payment_amount: maybe(money()),
    payment_currency: maybe(pattern(/^[A-Za-z0-9]{1,16}$/, 'must be 1-16 letters and digits')),
  }),
  v.metadata({
    ref: 'SubmitRequest',
    examples: [
      {
        payload: { type: 'echo', text: 'hello' },
        constraints: { min_vram_gb: 8, models: ['llama-3-8b'], region: 'eu', max_price: '0.8' },
        ttl_seconds: 900,
        payment_amount: '1.5',
        payment_currency: 'USD',
      },
    ],
  }),
);

export const JobParams = body({ job_id: JobId });

export const jobsQueryEntries = {
  state: maybe(State),
  limit: v.optional(pageSize(), String(DEFAULT_PAGE)),
  cursor: maybe(JobId),
};

export const JobsQuery = body(jobsQueryEntries);

/** Number of items on a page, from a query. */
export function pageSize() {
  return v.pipe(
    pattern(/^\d{1,4}$/, 'must be a whole number'),
    v.transform(Number),
    v.minValue(1, 'must be at least 1'),
    v.maxValue(MAX_PAGE, `must be at most ${MAX_PAGE}`),
  );
}

/** What an `Idempotency-Key` may be. */
export const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,200}$/;

const JobError = v.nullable(v.object({ code: v.string(), message: v.string() }));

const viewEntries = {
  job_id: v.string(),
  state: State,
  assigned_miner_id: v.nullable(v.string()),
  requested_at: v.string(),
  expires_at: v.string(),
  error: JobError,
};

export const JobAnswer = v.pipe(v.object(viewEntries), v.metadata({ ref: 'Job' }));

export const JobPage = v.pipe(
  v.object({
    items: v.array(JobAnswer),
    next_cursor: v.pipe(v.optional(v.string()), v.description('absent on the last page')),
  }),
  v.metadata({ ref: 'JobPage' }),
);

export const ResultAnswer = v.pipe(
  v.object({
    result: v.pipe(v.nullable(v.record(v.string(), v.unknown())), v.description('as the miner sent it')),
    receipt: v.pipe(
      v.nullable(v.record(v.string(), v.unknown())),
      v.description('signed; null without a signing key'),
    ),
    error: v.pipe(v.optional(JobError), v.description('only of a job that did not complete')),
  }),
  v.metadata({ ref: 'JobResult' }),
);
