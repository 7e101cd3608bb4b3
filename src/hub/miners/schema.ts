import * as v from 'valibot';
import {
  body,
  integer,
  jsonObject,
  listOf,
  maybe,
  moment,
  money,
  pattern,
  quantity,
  recordOf,
  words,
} from '../../platform/fields.ts';

/** Limits that clients and the index share. */
export const MAX_TAGS = 64;
const MAX_CAPABILITIES = 256;
const MAX_ACCEL = 16;
const MAX_TERM_CHARS = 64;
const MAX_CURRENT_JOBS = 1024;
const MAX_ACKS = 64;
const MAX_PARALLEL = 1024;
const MAX_QUEUE = 100_000;
const MAX_MEMORY_GB = 1_048_576;
const MAX_LATENCY_MS = 3_600_000;
const MAX_COMMAND_ARGS_CHARS = 4096;
const MAX_PAGE = 500;
const DEFAULT_PAGE = 50;

/** `{base_price}` reads as `{price_token_per_ksec}`, and so on. */
const PROFILE_ALIASES = { gpu_vram_gb: 'gpu_vram', base_price: 'price_token_per_ksec' };

export const MinerId = v.pipe(
  pattern(/^[A-Za-z0-9._:-]{1,64}$/, 'must be 1-64 of A-Z a-z 0-9 . _ : -'),
  v.metadata({ examples: ['miner-01'] }),
);

export const Region = v.pipe(
  pattern(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1-64 of A-Z a-z 0-9 . _ -'),
  v.toLowerCase(),
  v.metadata({ examples: ['eu-west-1'] }),
);

/** A tag, a capability or the name of a GPU: what the index knows as a term. */
export const Term = words(1, MAX_TERM_CHARS);

export const Accel = v.pipe(
  pattern(/^[A-Za-z0-9._+-]{1,32}$/, 'must be 1-32 of A-Z a-z 0-9 . _ + -'),
  v.toLowerCase(),
);

export const JobId = words(1, 128);

const SessionToken = v.pipe(
  pattern(/^[\x21-\x7e]{1,256}$/, 'must be a session token'),
  v.description('as register gave it'),
);

const Capabilities = listOf(Term, MAX_CAPABILITIES);

const TagList = v.pipe(v.array(Term), v.maxLength(MAX_TAGS, `must have at most ${MAX_TAGS} items`));
const TagPairs = recordOf(v.union([v.string(), v.number(), v.boolean()]), 'must be an object');

const tagsOf = (pairs: v.InferOutput<typeof TagPairs>): string[] =>
  Object.entries(pairs).map(([key, value]) => `${key}:${value}`);

/** A list, or an object whose pairs are read as `key:value`. */
const Tags = v.pipe(
  v.union(
    [
      TagList,
      v.pipe(
        TagPairs,
        v.check(
          (pairs) => v.is(TagList, tagsOf(pairs)),
          `must make at most ${MAX_TAGS} tags of at most ${MAX_TERM_CHARS} characters`,
        ),
      ),
    ],
    'must be a list of tags, or an object of key: value',
  ),
  v.transform((tags) => [...new Set(Array.isArray(tags) ? tags : tagsOf(tags))]),
);

const Places = integer(1, MAX_PARALLEL);

export const RegisterRequest = v.pipe(
  body(
    {
      miner_id: MinerId,
      api_key: v.pipe(
        words(1, 256),
        v.description('the key the miner was enrolled with; never stored or logged'),
      ),
      addr: v.pipe(
        words(1, 255),
        v.description('where jobs are sent'),
        v.metadata({ examples: ['10.1.2.3:9000'] }),
      ),
      proto: v.pipe(
        pattern(/^[A-Za-z0-9.+_-]{1,32}$/, 'must be 1-32 of A-Z a-z 0-9 . + _ -'),
        v.metadata({ examples: ['grpc'] }),
      ),
      gpu_vram: v.pipe(
        maybe(quantity(0, MAX_MEMORY_GB)),
        v.description('GB; unknown never satisfies a minimum; alias gpu_vram_gb'),
      ),
      gpu_name: maybe(words(0, MAX_TERM_CHARS)),
      gpu_count: maybe(integer(0, 1024)),
      cpu_cores: maybe(integer(0, 65_536)),
      ram_gb: maybe(quantity(0, MAX_MEMORY_GB)),
      price_token_per_ksec: v.pipe(money(), v.description('tokens per 1,000 seconds; alias base_price')),
      max_parallel: Places,
      tags: maybe(Tags),
      capabilities: maybe(Capabilities),
      accel: v.pipe(
        maybe(
          v.pipe(
            v.union([
              Accel,
              v.pipe(v.array(Accel), v.maxLength(MAX_ACCEL, `must have at most ${MAX_ACCEL} items`)),
            ]),
            v.transform((accel) => [...new Set([accel].flat())]),
          ),
        ),
        v.description('derived from tags, capabilities and gpu_name when left out'),
      ),
      region: v.pipe(maybe(Region), v.description('else a tag region:x, else DEFAULT_REGION')),
      tenant_id: maybe(words(1, 128)),
      wallet_address: maybe(words(1, 128)),
    },
    PROFILE_ALIASES,
  ),
  v.metadata({ ref: 'RegisterRequest' }),
);

const beatEntries = {
  ts: v.pipe(
    maybe(v.union([quantity(0, 1e15), words(1, 64)])),
    v.description("the miner's own time, handed back in the answer over WebSocket"),
  ),
  queue_len: v.pipe(maybe(integer(0, MAX_QUEUE)), v.description('jobs taken and not finished')),
  busy: maybe(v.boolean()),
  avg_latency_ms: maybe(quantity(0, MAX_LATENCY_MS)),
  temp_c: maybe(quantity(-273.15, 1000)),
  mem_free_gb: maybe(quantity(0, MAX_MEMORY_GB)),
  current_jobs: v.pipe(
    maybe(v.union([integer(0, MAX_QUEUE), v.pipe(v.array(JobId), v.maxLength(MAX_CURRENT_JOBS))])),
    v.description('job ids, or how many'),
  ),
  ack: v.pipe(
    maybe(v.pipe(v.array(pattern(/^\d{1,19}-\d{1,19}$/, 'must be a command id')), v.maxLength(MAX_ACKS))),
    v.description('ids of commands carried out'),
  ),
};

/** What a miner sends over its WebSocket. */
export const HeartbeatFrame = v.pipe(body(beatEntries), v.metadata({ ref: 'HeartbeatFrame' }));

/** The same over HTTP, with the names of an earlier protocol read as aliases. */
export const HeartbeatRequest = v.pipe(
  body(
    {
      ...beatEntries,
      session_token: v.pipe(maybe(SessionToken), v.description('or as Bearer')),
      miner_id: v.pipe(maybe(MinerId), v.description('needed (or as X-Miner-ID) with an api_key as Bearer')),
      status: v.pipe(
        maybe(pattern(/^[A-Za-z_-]{1,32}$/, 'must be one word')),
        v.description('alias: "busy" is busy, any other is not'),
      ),
      memory_used: v.pipe(
        maybe(quantity(0, MAX_MEMORY_GB)),
        v.description('GB; with memory_total an alias of mem_free_gb'),
      ),
      memory_total: maybe(quantity(0, MAX_MEMORY_GB)),
    },
    { network_latency_ms: 'avg_latency_ms' },
  ),
  v.metadata({ ref: 'HeartbeatRequest' }),
);

export const UpdateRequest = v.pipe(
  body(
    {
      session_token: v.pipe(maybe(SessionToken), v.description('or as Bearer')),
      queue_len: beatEntries.queue_len,
      busy: beatEntries.busy,
      current_jobs: beatEntries.current_jobs,
      price_token_per_ksec: maybe(money()),
      tags: maybe(Tags),
      capabilities: maybe(Capabilities),
      max_parallel: maybe(Places),
      draining: v.pipe(maybe(v.boolean()), v.description('true: takes no new jobs')),
    },
    PROFILE_ALIASES,
  ),
  v.metadata({ ref: 'UpdateRequest' }),
);

export const SessionRequest = v.pipe(
  body({ session_token: v.pipe(maybe(SessionToken), v.description('or as Bearer')) }),
  v.metadata({ ref: 'SessionRequest' }),
);

export const SessionQuery = body({ session_token: maybe(SessionToken) });

export const MinerParams = body({ id: MinerId });

export const ListQuery = body({
  state: maybe(
    v.picklist(
      ['online', 'degraded', 'busy', 'draining', 'full'],
      'must be online, degraded, busy, draining or full',
    ),
  ),
  region: maybe(Region),
  capability: maybe(Term),
  tag: maybe(Term),
  limit: v.pipe(
    v.optional(pattern(/^\d{1,3}$/, `must be a number from 1 to ${MAX_PAGE}`), String(DEFAULT_PAGE)),
    v.transform(Number),
    v.minValue(1, 'must be at least 1'),
    v.maxValue(MAX_PAGE, `must be at most ${MAX_PAGE}`),
  ),
  cursor: maybe(pattern(/^\d{1,4}\.\d{1,10}$/, 'must be a next_cursor')),
});

export const CommandRequest = v.pipe(
  body({
    name: v.pipe(
      pattern(/^[a-z][a-z0-9_.-]{0,63}$/, 'must be 1-64 of a-z 0-9 _ . - and start with a letter'),
      v.metadata({ examples: ['update_tags', 'set_price_cap', 'drain', 'resume'] }),
    ),
    args: v.optional(jsonObject(MAX_COMMAND_ARGS_CHARS), {}),
  }),
  v.metadata({ ref: 'CommandRequest' }),
);

export const PriceOverrideRequest = v.pipe(
  body({
    price: money(),
    expires_at: v.pipe(
      maybe(
        v.pipe(
          moment(),
          v.check((text) => !(Date.parse(text) <= Date.now()), 'must not be over'),
        ),
      ),
      v.description('when the override ends; never when left out'),
    ),
  }),
  v.metadata({ ref: 'PriceOverrideRequest' }),
);

export const PendingCommand = v.object({
  id: v.string(),
  name: v.string(),
  args: v.record(v.string(), v.unknown()),
});

const leaseEntries = {
  status: v.literal('ok'),
  success: v.literal(true),
  miner_id: v.string(),
  lease_ttl_sec: v.number(),
  next_heartbeat_sec: v.number(),
  lease_expires_at: v.string(),
};

export const LeaseAnswer = v.pipe(v.object(leaseEntries), v.metadata({ ref: 'LeaseAnswer' }));

export const LogoutAnswer = v.object({
  status: v.literal('ok'),
  success: v.literal(true),
  miner_id: v.string(),
});

export const HeartbeatAnswer = v.pipe(
  v.object({ ...leaseEntries, commands: v.array(PendingCommand) }),
  v.metadata({ ref: 'HeartbeatAnswer' }),
);

export const RegisterAnswer = v.pipe(
  v.object({
    ...leaseEntries,
    created: v.boolean(),
    session_token: v.string(),
    session_expires_at: v.string(),
  }),
  v.metadata({ ref: 'RegisterAnswer' }),
);
