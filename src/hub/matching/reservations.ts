import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, unavailable } from '../../platform/errors.ts';
import { keys, nameBeside } from '../../platform/keys.ts';
import type { RedisClient } from '../../platform/redis.ts';
import type { ScriptReply, Scripts } from '../../platform/scripts.ts';
import type { Homes } from '../registry/homes.ts';
import type { Found } from './types.ts';

/** How many candidates beyond those asked for are tried before asking for a new match. */
export const CLAIM_SPARE = 16;
const LOCK_MS = 10_000;
const LOCK_WAIT_MS = 2000;
const PLAN_KEEP_MS = 60_000;
const PLAN_MAX = 200;
const RESERVATION_ID = /^\d{1,10}\.[A-Za-z0-9_-]{22}$/;
/** A miner with reservations is on its way to another shard for milliseconds. */
const MOVES_MAX = 3;

/** States of a reservation whose place is the job's. `moving`: its miner is on its way to another shard. */
const HOLDING: ReadonlySet<string> = new Set(['held', 'confirmed', 'moving']);

/** A place that is planned for a job on a candidate; held once the claim says so. */
interface PlannedPlace {
  reservationId: string;
  found: Found;
  /** It was confirmed when this plan was written, and counts as confirmed if the reservation is forgotten before the plan. */
  confirmed?: true;
}

/** A candidate with the place held for the job. */
export interface Reserved {
  reservationId: string;
  found: Found;
}

export type EndResult =
  | { status: 'ok'; jobId: string; minerId: string }
  /** It had ended before, in another way: confirmed, released, expired, or lost because its miner left. */
  | { status: 'ended'; how: string }
  | { status: 'unknown' };

/** What a request asks to be held for its job. */
interface Wanted {
  count: number;
  ttlMs: number;
  /** Miners whose places do not count, though the job may hold some. */
  excluded?: readonly string[] | undefined;
}

/** Which new candidates to try next: `exclude` are the miners tried already. */
type FindMore = (exclude: readonly string[]) => Promise<Found[]>;

/**
 * Claims of places. A match is a hint; the claim, one script on the miner's shard, is the truth. What a job holds is
 * planned in the job's home shard before it is claimed, so a repeated request finds the same places, whichever replica
 * takes it and whichever replica died in between.
 */
export class ReservationStore {
  readonly #scripts: Scripts;
  readonly #redis: RedisClient;
  readonly #homes: Homes;

  constructor(scripts: Scripts, redis: RedisClient, homes: Homes) {
    this.#scripts = scripts;
    this.#redis = redis;
    this.#homes = homes;
  }

  /**
   * Holds `count` places for a job, on the best candidates that still have one; what the job holds already counts.
   * Fewer are held when the pool has no more. Throws AppError `unavailable` when another request for the same job does
   * not end, and what Redis throws.
   */
  async reserve(
    jobId: string,
    { count, ttlMs, excluded = [] }: Wanted,
    findMore: FindMore,
  ): Promise<Reserved[]> {
    const token = randomBytes(9).toString('base64url');
    const plan = await this.#open(jobId, token);
    try {
      const live = await this.#live(plan);
      const isExcluded = ({ found }: PlannedPlace) => excluded.includes(found.minerId);
      const besides = live.filter(isExcluded);
      const held = live.filter((place) => !isExcluded(place));
      const tried = new Set(live.map((place) => place.found.minerId));
      const attempts = 3;
      for (let attempt = 0; attempt < attempts && held.length < count; attempt++) {
        const found = (await findMore([...tried])).slice(0, count - held.length + CLAIM_SPARE);
        if (found.length === 0) break;
        const fresh = found.map((candidate) => ({
          reservationId: reservationId(jobId, candidate, token),
          found: candidate,
        }));
        for (const candidate of found) tried.add(candidate.minerId);
        await this.#write(jobId, token, [...besides, ...held, ...fresh].slice(0, PLAN_MAX), ttlMs);
        held.push(...(await this.#claim(jobId, fresh, count - held.length, ttlMs)));
      }
      return held.slice(0, count);
    } finally {
      await this.#homes.runForJob('matching/job_plan', jobId, [token, '', 0, '1']);
    }
  }

  /** Confirms (the miner has the job) or releases a reservation. */
  async end(id: string, outcome: 'confirmed' | 'released'): Promise<EndResult> {
    if (!RESERVATION_ID.test(id)) return { status: 'unknown' };
    for (let moves = 0; moves < MOVES_MAX; moves++) {
      const reply = await this.#homes.runForReservation('matching/end_reservation', id, [outcome]);
      if (reply[0] === 'ok') return { status: 'ok', jobId: reply[1] as string, minerId: reply[2] as string };
      if (reply[0] !== 'ended') return { status: 'unknown' };
      if (reply[1] !== 'moving') return { status: 'ended', how: reply[1] as string };
      const minerId = await this.#minerOf(id);
      if (minerId !== undefined) await this.#homes.bring(minerId);
    }
    throw unavailable('this reservation');
  }

  async #open(jobId: string, token: string): Promise<PlannedPlace[]> {
    const deadline = performance.now() + LOCK_WAIT_MS;
    for (let waitMs = 5; ; waitMs = Math.min(200, waitMs * 2)) {
      const reply = await this.#homes.runForJob('matching/job_open', jobId, [token, LOCK_MS]);
      if (reply[0] === 'ok') return reply[1] === '' ? [] : (JSON.parse(reply[1] as string) as PlannedPlace[]);
      if (performance.now() > deadline) {
        throw new AppError('unavailable', 'another request for this job_id is being answered', {
          retry_after_sec: 1,
        });
      }
      await sleep(waitMs * (0.5 + Math.random()));
    }
  }

  async #write(jobId: string, token: string, plan: readonly PlannedPlace[], ttlMs: number): Promise<void> {
    const reply = await this.#homes.runForJob('matching/job_plan', jobId, [
      token,
      JSON.stringify(plan),
      ttlMs + PLAN_KEEP_MS,
      '0',
    ]);
    if (reply[0] === 'lost') {
      throw new AppError('unavailable', 'reserving took too long; ask again', { retry_after_sec: 1 });
    }
  }

  /** Those of a plan that hold a place now; a confirmed one is the job's too, until feedback says that the job is over. */
  async #live(plan: readonly PlannedPlace[]): Promise<PlannedPlace[]> {
    const replies = await Promise.all(
      plan.map(({ reservationId }) =>
        this.#homes.runForReservation('matching/reservation_state', reservationId, []),
      ),
    );
    return plan.flatMap((place, i): PlannedPlace[] => {
      const [status, known] = replies[i] as ScriptReply;
      const state = status === 'ok' ? (known as string) : place.confirmed ? 'confirmed' : '';
      if (!HOLDING.has(state)) return [];
      return [state === 'confirmed' ? { ...place, confirmed: true } : place];
    });
  }

  #minerOf(id: string): Promise<string | undefined> {
    return this.#homes.findReservation(id, async (shard) => {
      return (await this.#redis.hget(keys.reservation(shard, id), 'miner_id')) ?? undefined;
    });
  }

  /** Claims best first; candidates of one shard that stand together go in one call. */
  async #claim(
    jobId: string,
    places: readonly PlannedPlace[],
    count: number,
    ttlMs: number,
  ): Promise<Reserved[]> {
    const held: Reserved[] = [];
    let from = 0;
    while (from < places.length && held.length < count) {
      const shard = (places[from] as PlannedPlace).found.shard;
      let to = from;
      while (places[to]?.found.shard === shard) to++;
      const run = places.slice(from, to);
      const pairs = run.flatMap((place) => [place.reservationId, place.found.minerId]);
      const reply = await this.#scripts.run('matching/claim', shard, [
        jobId,
        ttlMs,
        count - held.length,
        ...pairs,
      ]);
      const claimed = new Set((reply[1] as [string, string][]).map(([id]) => id));
      held.push(...run.filter((place) => claimed.has(place.reservationId)));
      from = to;
    }
    return held;
  }
}

/** Lives in the shard of its miner, where any replica finds it; unique to this job, miner and round of claims. */
function reservationId(jobId: string, found: Found, token: string): string {
  const hash = createHash('sha256').update(`${jobId}\n${found.minerId}\n${token}`).digest('base64url');
  return nameBeside(found.minerId, hash.slice(0, 22));
}
