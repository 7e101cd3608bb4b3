import * as v from 'valibot';
import {
  body,
  integer,
  jsonObject,
  listOf,
  maybe,
  money,
  pattern,
  quantity,
  words,
} from '../../platform/fields.ts';

const MAX_JSON_CHARS = 16_777_216;
const MAX_METADATA_CHARS = 16_384;
const MAX_GPUS = 64;
const MAX_MODELS = 1000;
const MAX_MEMORY_MB = 1_073_741_824;
const MAX_CONCURRENCY = 1000;
const MAX_WAIT_SEC = 3600;
const MAX_ERROR_CHARS = 1000;

const Gpu = v.looseObject({
  name: v.optional(words(1, 128)),
  memory_mb: v.optional(quantity(0, MAX_MEMORY_MB)),
});

/** What JSON.stringify writes of NUL and of half a surrogate pair: jsonb takes neither. */
const NOT_IN_JSONB = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/;

const storedObject = v.pipe(
  jsonObject(MAX_METADATA_CHARS),
  v.check(
    (value) => !NOT_IN_JSONB.test(JSON.stringify(value)),
    'must not have NUL characters or broken Unicode',
  ),
);

const Capabilities = v.pipe(
  storedObject,
  v.looseObject({
    gpus: v.optional(v.pipe(v.array(Gpu), v.maxLength(MAX_GPUS, `must have at most ${MAX_GPUS} items`))),
    cuda: v.optional(v.union([v.boolean(), v.number(), words(1, 32)], 'must be true or a version like 12.4')),
    models: v.optional(
      v.pipe(v.array(words(1, 128)), v.maxLength(MAX_MODELS, `must have at most ${MAX_MODELS} items`)),
    ),
    price: v.optional(money()),
  }),
  v.description(
    'gpus, cuda, models and price are compared with the constraints of jobs; other keys are kept',
  ),
);

export const RegisterRequest = v.pipe(
  body({
    capabilities: Capabilities,
    concurrency: v.pipe(v.optional(integer(1, MAX_CONCURRENCY), 1), v.description('jobs at a time')),
    region: maybe(pattern(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1-64 letters, digits, ., _ or -')),
  }),
  v.metadata({
    ref: 'CoordinatorRegisterRequest',
    examples: [
      {
        capabilities: {
          gpus: [{ name: 'NVIDIA RTX 4090', memory_mb: 24_576 }],
          cuda: '12.4',
          models: ['llama-3-8b'],
          price: '0.5',
        },
        concurrency: 2,
        region: 'eu-west-1',
      },
    ],
  }),
);

export const RegisterAnswer = v.pipe(
  v.object({ status: v.literal('ok'), session_token: v.string() }),
  v.metadata({ ref: 'CoordinatorRegisterAnswer' }),
);

export const HeartbeatRequest = v.pipe(
  body({
    inflight: v.pipe(
      maybe(integer(0, MAX_CONCURRENCY)),
      v.description('jobs the miner works on; without it, as many as current_jobs has'),
    ),
    status: v.optional(
      v.pipe(
        pattern(/^[A-Za-z_-]{1,32}$/, 'must be a word such as ONLINE or DRAINING'),
        v.transform((word) => (word.toUpperCase() === 'DRAINING' ? 'DRAINING' : 'ONLINE')),
      ),
      'ONLINE',
    ),
    metadata: maybe(storedObject),
    current_jobs: v.pipe(
      maybe(listOf(words(1, 64), MAX_CONCURRENCY)),
      v.description(
        'ids of those jobs, to be told which of them to stop; jobs that it was sent half a minute ago and that are not among them go to others',
      ),
    ),
  }),
  v.metadata({ ref: 'CoordinatorHeartbeatRequest' }),
);

export const HeartbeatAnswer = v.pipe(
  v.object({
    status: v.literal('ok'),
    miner_status: v.picklist(['ONLINE', 'DRAINING']),
    canceled_jobs: v.pipe(
      v.array(v.string()),
      v.description(
        'those of current_jobs that the miner need not finish: canceled, expired, or given to another; their results are refused',
      ),
    ),
  }),
  v.metadata({ ref: 'CoordinatorHeartbeatAnswer' }),
);

export const StatusAnswer = v.pipe(
  v.object({ status: v.literal('ok'), miner_status: v.picklist(['ONLINE', 'DRAINING']) }),
  v.metadata({ ref: 'CoordinatorMinerStatus' }),
);

export const PollRequest = v.pipe(
  body({ max_wait_seconds: v.optional(quantity(0, MAX_WAIT_SEC), 0) }),
  v.metadata({ ref: 'PollRequest' }),
);

export const AssignedJob = v.pipe(
  v.object({
    job_id: v.string(),
    payload: v.record(v.string(), v.unknown()),
    constraints: v.record(v.string(), v.unknown()),
  }),
  v.metadata({ ref: 'AssignedJob' }),
);

export const ResultRequest = v.pipe(
  body({
    result: v.pipe(
      jsonObject(MAX_JSON_CHARS),
      v.description('a result whose status is failed is a failure, told by its error_code and error_message'),
    ),
    metrics: maybe(jsonObject(MAX_JSON_CHARS)),
  }),
  v.metadata({ ref: 'ResultRequest', examples: [{ result: { text: 'hello' }, metrics: { units: 1.5 } }] }),
);

export const ResultTaken = v.pipe(
  v.object({ status: v.literal('ok'), receipt: v.nullable(v.record(v.string(), v.unknown())) }),
  v.metadata({ ref: 'ResultTaken' }),
);

export const FailRequest = v.pipe(
  body({
    error_code: v.optional(
      pattern(/^[A-Za-z0-9._:-]{1,64}$/, 'must be 1-64 of A-Z a-z 0-9 . _ : -'),
      'failed',
    ),
    error_message: v.optional(words(0, MAX_ERROR_CHARS), ''),
    metrics: maybe(jsonObject(MAX_JSON_CHARS)),
  }),
  v.metadata({ ref: 'FailRequest' }),
);

export const DoneAnswer = v.pipe(v.object({ status: v.literal('ok') }), v.metadata({ ref: 'DoneAnswer' }));
