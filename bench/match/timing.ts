import type { Redis } from 'ioredis';
import { between, seededRandom } from '../../src/cli/random.ts';
import type { MatchStore } from '../../src/hub/matching/store.ts';
import { readSession } from '../../src/hub/miners/session.ts';
import { masters } from '../../src/platform/redis.ts';
import type { Options } from '../support/benchmark.ts';
import type { LoadedMiner } from '../support/fleet-loader.ts';
import type { BenchRegistry } from '../support/registry.ts';
import { median, round } from '../support/statistics.ts';
import { loadEmptyScript, serverMicros } from './server-time.ts';
import { DEFAULT_STRATEGY, newJobId, requestOf, type Shape } from './shapes.ts';

/** Server-side microseconds of one call each, medians of the rounds. */
export interface ShapeTiming {
  readonly server_us: number;
  /** The quietest round. */
  readonly best_us: number;
  /** The same with one call at a time: a server that rests between two calls finds its caches cold. */
  readonly lone_us: number;
  /** An empty script beside it. */
  readonly noop_us: number;
  /** Explaining, where nobody is found. */
  readonly explain_us: number | null;
}

/** In each round every shape takes its turn beside the empty script: what disturbs one disturbs both. */
export async function timeShapes(
  { redis }: BenchRegistry,
  store: MatchStore,
  shapes: readonly Shape[],
  { rounds, calls }: Options,
): Promise<ShapeTiming[]> {
  const node = serverOf(redis);
  const empty = await loadEmptyScript(node);
  const turns = await Promise.all(
    shapes.map(async (shape) => {
      const k = shape.query.top_k;
      const request = () => requestOf(shape, newJobId());
      const first = await store.find(request(), DEFAULT_STRATEGY.position, k);
      const find = () => store.find(request(), DEFAULT_STRATEGY.position, k);
      const explain = () => store.explain(request(), DEFAULT_STRATEGY.position);
      return {
        noop: timed(node, together(calls), () => node.evalsha(empty, 1, 'empty')),
        match: timed(node, together(calls), find),
        lone: timed(node, oneByOne(calls), find),
        explain: first.candidates.length === 0 ? timed(node, together(calls), explain) : undefined,
      };
    }),
  );
  // One round more than is counted: the first warms up.
  for (let n = 0; n <= rounds; n += 1) {
    for (const { noop, match, lone, explain } of turns) {
      for (const turn of [noop, match, lone, explain]) await turn?.run();
    }
  }
  return turns.map(({ noop, match, lone, explain }) => ({
    server_us: round(median(match.counted()), 1),
    best_us: round(Math.min(...match.counted()), 1),
    lone_us: round(median(lone.counted()), 1),
    noop_us: round(median(noop.counted()), 2),
    explain_us: explain === undefined ? null : round(median(explain.counted()), 1),
  }));
}

/**
 * Heartbeats of miners taken in turn, with a load and a latency that differ from the last; as many as fit share a call.
 * @returns microseconds of one
 */
export async function timeHeartbeats(
  { redis, miners }: BenchRegistry,
  sessions: readonly LoadedMiner[],
  { rounds, calls, seed }: Options,
): Promise<number> {
  const node = serverOf(redis);
  const random = seededRandom(seed);
  const credentials = sessions.map(({ minerId, sessionToken }) => {
    const digest = readSession(sessionToken)?.digest ?? '';
    return { minerId, credential: { kind: 'session', digest } as const };
  });
  let next = 0;
  const turn = timed(
    node,
    together(calls),
    async () => {
      const { minerId, credential } = credentials[next % credentials.length] as (typeof credentials)[number];
      next += 1;
      const beat = {
        queue_len: between(random, 0, 2),
        busy: false,
        avg_latency_ms: between(random, 20, 200),
      };
      const answer = await miners.heartbeat(minerId, credential, beat);
      if (answer.status !== 'ok') throw new Error(`the registry refused a heartbeat: ${answer.status}`);
    },
    calls,
  );
  for (let n = 0; n <= rounds; n += 1) await turn.run();
  return round(median(turn.counted()), 1);
}

/** The one server that the run works on. */
function serverOf(redis: BenchRegistry['redis']): Redis {
  const [node] = masters(redis);
  if (node === undefined) throw new Error('there is no Redis to measure');
  return node;
}

/** Makes a number of calls. */
type Pace = (call: () => Promise<unknown>) => Promise<unknown>;

/** All in one go, as replicas under load send them: the server works through them without a pause. */
function together(calls: number): Pace {
  return (call) => Promise.all(Array.from({ length: calls }, call));
}

function oneByOne(calls: number): Pace {
  return async (call) => {
    for (let n = 0; n < calls; n += 1) await call();
  };
}

/** `run` makes calls at a pace; `counted` gives server-side microseconds of one of its `parts` (calls of scripts), for each run but the first. */
function timed(node: Redis, pace: Pace, call: () => Promise<unknown>, parts?: number) {
  const means: number[] = [];
  return {
    async run(): Promise<void> {
      means.push(await serverMicros(node, () => pace(call), parts));
    },
    counted: () => means.slice(1),
  };
}
