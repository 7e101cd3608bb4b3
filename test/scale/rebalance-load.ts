import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HubClient } from '../../src/sdk/hub-client.ts';
import { uniqueId } from '../durable/fleet.ts';

/** What miners and a coordinator saw while they kept at it. */
export interface Load {
  beats: number;
  matches: number;
  /** Miners in an answer less those that there are, as far as it was off: below, and above. */
  fewest: number;
  most: number;
  /** Why a call failed. */
  readonly failures: unknown[];
  stop(): Promise<void>;
}

export interface LoadOptions {
  readonly clients: readonly HubClient[];
  /** Sessions of the miners that beat. */
  readonly tokens: readonly string[];
  /** Tag of the miners that match; none of them is ever full, busy or draining. */
  readonly tag: string;
  readonly miners: number;
  /** Miners on the way at once, and moved a second, at most. */
  readonly parallel: number;
  readonly perSecond: number;
}

const BEATERS = 4;
const MATCHERS = 2;
const PAUSE_MS = 4;
/** A busy machine may do what was waited for late, and all at once. */
const CLOCK_MS = 20;

/**
 * Miners beat and a coordinator matches, all the time and on every replica. Each match must see the whole fleet, less the miners that are on
 * the way, or were moved while the shards were asked one after another; and no miner twice.
 */
export function startLoad(options: LoadOptions): Load {
  const { clients, tokens, tag, miners, parallel, perSecond } = options;
  let stopped = false;
  let turn = 0;
  const client = () => clients[turn++ % clients.length] as HubClient;
  const load: Omit<Load, 'stop'> = { beats: 0, matches: 0, fewest: 0, most: 0, failures: [] };
  const keepOn = async (work: () => Promise<void>) => {
    while (!stopped) {
      await work().catch((error: unknown) => load.failures.push(error));
      await sleep(PAUSE_MS);
    }
  };
  const beat = async () => {
    const token = tokens[load.beats++ % tokens.length] as string;
    await client().heartbeat(token, { queue_len: 0, avg_latency_ms: 5 + (load.beats % 40) });
  };
  const match = async () => {
    const startedMs = performance.now();
    const requirements = { tags_all: [tag] };
    const { feasible, candidates } = await client().match({
      job_id: uniqueId('job'),
      requirements,
      top_k: 100,
    });
    const tookMs = performance.now() - startedMs;
    load.matches++;
    const off = feasible - miners;
    load.fewest = Math.min(load.fewest, off);
    load.most = Math.max(load.most, off);
    const bound = parallel + Math.ceil((perSecond * (tookMs + CLOCK_MS)) / 1000);
    assert.ok(Math.abs(off) <= bound, `${feasible} of ${miners} miners in ${tookMs} ms`);
    assert.equal(new Set(candidates.map(({ miner_id }) => miner_id)).size, candidates.length);
  };
  const working = [
    ...Array.from({ length: BEATERS }, () => keepOn(beat)),
    ...Array.from({ length: MATCHERS }, () => keepOn(match)),
  ];
  const stop = async () => {
    stopped = true;
    await Promise.all(working);
  };
  return Object.assign(load, { stop });
}
