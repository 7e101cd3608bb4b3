import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../../src/sdk/errors.ts';
import type { HubClient } from '../../src/sdk/hub-client.ts';
import { uniqueId } from '../durable/fleet.ts';
import { Random } from '../support/random.ts';

/** A place that a coordinator knew it had, from its answer on until it gave it up or its time was over; ms of one clock. */
export interface Hold {
  readonly minerId: string;
  readonly reservationId: string;
  readonly fromMs: number;
  untilMs: number;
}

/** What the coordinators did, and knew. */
export interface Fight {
  readonly holds: Hold[];
  asked: number;
  /** Asked and got nothing: all places were taken. */
  empty: number;
  repeated: number;
  abandoned: number;
  /** Calls that failed because their replica was away. */
  failed: number;
}

const now = () => performance.timeOrigin + performance.now();

/** A coordinator's patience: it ends, or dies, with its request. */
const SHORT_TTL_MS = 700;
const LONG_TTL_MS = 3_000;
/** A hold that is nearly over may be gone when the answer to a repeat comes. */
const SURELY_HELD_MS = 1_000;
const HOLD_MS = 300;
/** What a call meets whose replica dies, or has too much to do. */
const AWAY: ReadonlySet<string> = new Set(['unavailable', 'unreachable', 'timeout']);

/** One coordinator with two jobs at a time: claims, repeats itself, confirms, releases, forgets and dies, by chance. */
export async function coordinate(
  clients: () => readonly HubClient[],
  fight: Fight,
  seed: number,
  goesOn: (round: number) => boolean,
): Promise<void> {
  const random = new Random(seed);
  const claim = async () => {
    try {
      await claimOnce(clients, fight, random);
    } catch (error) {
      if (!(error instanceof HubError) || !AWAY.has(error.code)) throw error;
      fight.failed += 1;
      await sleep(HOLD_MS * random.next());
    }
  };
  for (let round = 0; goesOn(round); round++) await Promise.all([claim(), claim()]);
}

async function claimOnce(clients: () => readonly HubClient[], fight: Fight, random: Random): Promise<void> {
  const client = () => random.pick(clients());
  const job_id = uniqueId('claim');
  const ttl_ms = random.chance(0.3) ? SHORT_TTL_MS : LONG_TTL_MS;
  const request = { job_id, top_k: 1, reserve: { count: 1, ttl_ms } };
  const askedMs = now();
  fight.asked += 1;
  if (random.chance(0.1)) {
    // It dies before its answer comes: what was claimed for it must not stay.
    fight.abandoned += 1;
    const signal = AbortSignal.timeout(Math.ceil(random.next() * 10));
    await client()
      .match({ ...request, reserve: { count: 1, ttl_ms: SHORT_TTL_MS } }, { signal })
      .catch(() => {});
    return;
  }
  const { candidates } = await client().match(request);
  const [candidate] = candidates;
  if (candidate?.reservation_id === undefined) {
    fight.empty += 1;
    return;
  }
  const hold: Hold = {
    minerId: candidate.miner_id,
    reservationId: candidate.reservation_id,
    fromMs: now(),
    // The hub reads the clock after this.
    untilMs: askedMs + ttl_ms,
  };
  fight.holds.push(hold);
  if (random.chance(0.3)) {
    const again = await client().match(request);
    if (now() < hold.untilMs - SURELY_HELD_MS) {
      assert.equal(again.candidates[0]?.reservation_id, hold.reservationId, 'the first reservation again');
      fight.repeated += 1;
    }
  }
  await sleep(HOLD_MS * random.next());
  if (random.chance(0.15)) return;
  hold.untilMs = Math.min(hold.untilMs, now());
  if (random.chance(0.3)) await client().confirmReservation(hold.reservationId).catch(ended);
  else await client().releaseReservation(hold.reservationId).catch(ended);
}

/** Somebody slow finds that its time was over. */
function ended(error: unknown): void {
  if (!(error instanceof HubError) || error.code !== 'conflict') throw error;
}

/** The most places of a miner that were known to be held at the same moment, by miner. */
export function mostAtOnce(holds: readonly Hold[]): Map<string, number> {
  const most = new Map<string, number>();
  const byMiner = new Map<string, { atMs: number; change: number }[]>();
  for (const { minerId, fromMs, untilMs } of holds) {
    if (untilMs <= fromMs) continue;
    const moments = byMiner.get(minerId) ?? [];
    moments.push({ atMs: fromMs, change: 1 }, { atMs: untilMs, change: -1 });
    byMiner.set(minerId, moments);
  }
  for (const [minerId, moments] of byMiner) {
    // An end counts before a start of the same moment.
    moments.sort((a, b) => a.atMs - b.atMs || a.change - b.change);
    let held = 0;
    for (const { change } of moments) {
      held += change;
      most.set(minerId, Math.max(most.get(minerId) ?? 0, held));
    }
  }
  return most;
}
