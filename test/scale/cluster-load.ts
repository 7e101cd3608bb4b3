import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HubClient } from '../../src/sdk/hub-client.ts';
import type { RegisterRequest } from '../../src/sdk/types.ts';
import { uniqueId } from '../durable/fleet.ts';
import { profileOf } from '../sdk/profiles.ts';

/** What clients saw of a pool in trouble. */
export interface Seen {
  matched: number;
  beats: number;
  /** Refusals with 503: asked again later, and no harm done. */
  refused: number;
}

/** Clients that never rest, of a pool whose miners are known. */
export interface Load {
  readonly seen: Seen;
  /** Resolves once each kind of call has been answered well again. */
  answeredAgain(): Promise<void>;
  /** Ends the load. @throws what no client of a pool in trouble should see */
  stop(): Promise<void>;
}

const PAUSE_MS = 5;
const RETRY_MS = 50;
const ANSWER_TIMEOUT_MS = 60_000;

/** Registers miners that are alike. @returns their sessions by id */
export async function registerFleet(
  client: HubClient,
  size: number,
  profile: Partial<RegisterRequest> = {},
): Promise<Map<string, string>> {
  const sessions = new Map<string, string>();
  const name = uniqueId('fleet');
  const enter = async (miner_id: string) => {
    const { session_token } = await client.register(profileOf(miner_id, profile));
    sessions.set(miner_id, session_token);
  };
  await Promise.all(Array.from({ length: size }, (_, n) => enter(`${name}-${n}`)));
  return sessions;
}

/** Matches and heartbeats, over all the replicas, without an end. Every answer must be whole: all of the fleet, or 503. */
export function startLoad(clients: readonly HubClient[], sessions: ReadonlyMap<string, string>): Load {
  const seen: Seen = { matched: 0, beats: 0, refused: 0 };
  const stopped = new AbortController();
  const keep = async (work: (client: HubClient, n: number) => Promise<void>) => {
    for (let n = 0; !stopped.signal.aborted; n++) {
      try {
        await work(clients[n % clients.length] as HubClient, n);
        await sleep(PAUSE_MS);
      } catch (error) {
        if ((error as { code?: string }).code !== 'unavailable') throw error;
        seen.refused += 1;
        await sleep(RETRY_MS);
      }
    }
  };
  const match = async (client: HubClient) => {
    const { feasible, candidates } = await client.match({ job_id: uniqueId('job') });
    assert.equal(feasible, sessions.size, 'a match sees the whole fleet');
    assert.equal(candidates.length, 3);
    seen.matched += 1;
  };
  const tokens = [...sessions.values()];
  const beat = async (client: HubClient, n: number) => {
    await client.heartbeat(tokens[n % tokens.length] as string, { queue_len: 0 });
    seen.beats += 1;
  };
  const loops = Promise.all([keep(match), keep(match), keep(beat), keep(beat)]);
  loops.catch(() => stopped.abort());
  return {
    seen,
    async answeredAgain() {
      const { matched, beats } = seen;
      const more = 2 * clients.length + tokens.length;
      const deadline = performance.now() + ANSWER_TIMEOUT_MS;
      while (seen.matched < matched + more || seen.beats < beats + more) {
        if (stopped.signal.aborted) await loops;
        assert.ok(performance.now() < deadline, `not answered again: ${JSON.stringify(seen)}`);
        await sleep(RETRY_MS);
      }
    },
    async stop() {
      stopped.abort();
      await loops;
    },
  };
}
