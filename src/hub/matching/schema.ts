import * as v from 'valibot';
import { body, integer, listOf, maybe, money, pattern, quantity, words } from '../../platform/fields.ts';
import { Accel, JobId, MinerId, Region, Term } from '../miners/schema.ts';

const MAX_ANY = 16;
const MAX_ALL = 64;
const MAX_EXCLUDED = 100;
const MAX_MEMORY_GB = 1_048_576;
const DAY_MS = 86_400_000;

const Requirements = body({
  task: maybe(words(1, 64)),
  min_vram_gb: maybe(quantity(0, MAX_MEMORY_GB)),
  min_ram_gb: maybe(quantity(0, MAX_MEMORY_GB)),
  accel: v.pipe(maybe(listOf(Accel, MAX_ANY)), v.description('any of these')),
  tags_any: maybe(listOf(Term, MAX_ANY)),
  tags_all: maybe(listOf(Term, MAX_ALL)),
  tags_none: maybe(listOf(Term, MAX_ALL)),
  capabilities_any: v.pipe(
    maybe(listOf(Term, MAX_ANY)),
    v.description('at least one; the share that a miner has is its cap_fit'),
  ),
  capabilities_all: maybe(listOf(Term, MAX_ALL)),
  gpu_name_any: v.pipe(maybe(listOf(Term, MAX_ANY)), v.description('exact names, in any case')),
  exclude_miners: maybe(listOf(MinerId, MAX_EXCLUDED)),
});

const Hints = body({
  region: v.pipe(maybe(Region), v.description('exact, or a dash prefix: eu takes eu-west')),
  max_price: v.pipe(maybe(money()), v.description('tokens per 1,000 seconds')),
  deadline_ms: v.pipe(
    maybe(integer(0, DAY_MS)),
    v.description('a candidate whose eta_ms is later does not match'),
  ),
  strategy: maybe(pattern(/^[a-z][a-z0-9_-]{0,31}$/, 'must be the name of a strategy')),
});

const matchEntries = {
  job_id: JobId,
  requirements: v.nullish(Requirements, {}),
  hints: v.nullish(Hints, {}),
  top_k: v.nullish(integer(1, 100), 3),
  reserve: v.pipe(
    maybe(body({ count: integer(1, 100), ttl_ms: integer(1, DAY_MS) })),
    v.description('claims places on the best candidates that still have one'),
  ),
};

const EXAMPLE = {
  job_id: '7d5e1f0c-2f53-4a54-9a57-4b2f4c1f3a10',
  requirements: {
    task: 'image_embedding',
    min_vram_gb: 8,
    min_ram_gb: 8,
    accel: ['cuda'],
    tags_any: ['eu-west', 'low-latency'],
    capabilities_any: ['sentence-transformers/all-MiniLM-L6-v2'],
  },
  hints: { region: 'eu', max_price: 0.8, deadline_ms: 5000 },
  top_k: 3,
};

export const MatchRequest = v.pipe(
  body(matchEntries),
  v.metadata({ ref: 'MatchRequest', examples: [EXAMPLE] }),
);

export const ExplainRequest = v.pipe(
  body({
    ...matchEntries,
    miner_id: v.pipe(maybe(MinerId), v.description('says of this miner every clause it fails')),
  }),
  v.metadata({ ref: 'ExplainRequest' }),
);

export const ReservationParams = body({
  id: pattern(/^[A-Za-z0-9._:-]{1,128}$/, 'must be a reservation id'),
});

const Candidate = v.object({
  miner_id: v.string(),
  addr: v.string(),
  proto: v.string(),
  score: v.number(),
  eta_ms: v.nullable(v.number()),
  price: v.string(),
  explain: v.string(),
  state: v.picklist(['online', 'degraded']),
  reservation_id: v.optional(v.string()),
});

export const MatchAnswer = v.pipe(
  v.object({
    job_id: v.string(),
    candidates: v.array(Candidate),
    explain: v.string(),
    feasible: v.number(),
    truncated: v.boolean(),
    strategy: v.string(),
  }),
  v.metadata({ ref: 'MatchAnswer' }),
);

export const ExplainAnswer = v.pipe(
  v.object({
    job_id: v.string(),
    registered: v.number(),
    online: v.number(),
    degraded: v.number(),
    available: v.pipe(
      v.number(),
      v.description('online or degraded, with a free place, not busy or draining'),
    ),
    matchable: v.pipe(v.number(), v.description('available ones that are online')),
    feasible: v.pipe(v.number(), v.description('miners that satisfy every clause')),
    clauses: v.array(
      v.object({
        clause: v.string(),
        have: v.pipe(v.number(), v.description('available miners that satisfy it')),
        if_dropped: v.pipe(v.number(), v.description('that would match without this clause')),
      }),
    ),
    explain: v.string(),
    miner: v.optional(v.object({ miner_id: v.string(), fails: v.array(v.string()) })),
  }),
  v.metadata({ ref: 'ExplainAnswer' }),
);

export const ReservationAnswer = v.pipe(
  v.object({ status: v.literal('ok'), reservation_id: v.string() }),
  v.metadata({ ref: 'ReservationAnswer' }),
);
