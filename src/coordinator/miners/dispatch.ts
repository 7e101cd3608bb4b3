import { type Database, isPostgresUnavailable } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import type { CoordinatorConfig } from '../environment.ts';
import type { CoordinatorMetrics } from '../metrics.ts';
import type { JobWaiting, Notices } from '../notices.ts';
import { type ClaimedJob, claimJob } from './claim.ts';
import { fits, type MinerOffer } from './fit.ts';
import { Gate } from './gate.ts';
import { type PollingMiner, seen } from './store.ts';

interface DispatcherDeps {
  readonly config: Pick<CoordinatorConfig, 'max_polls' | 'poolhub_url' | 'db_pool_max'>;
  readonly db: Database;
  readonly log: Logger;
  readonly metrics: CoordinatorMetrics;
  readonly notices: Notices;
}

/** A poll that is held. */
interface Waiter {
  readonly minerId: string;
  readonly offer: MinerOffer;
  /** A claim is under way. */
  claiming: boolean;
  /** A job that turned up meanwhile, which the claim may have come too early for. */
  missed: Pending | undefined;
  readonly settle: (job: ClaimedJob | undefined) => void;
}

/** A waiting job, and how many polls were woken for it in vain. */
interface Pending {
  readonly job: JobWaiting;
  readonly passes: number;
}

/** Claims under way; more would only wait for connections. */
const MAX_CLAIMS_AT_A_TIME = 64;

/** Statements of polls under way, per connection of the pool: the others wait here, and leave room for other calls. */
const GATE_PLACES_PER_CONNECTION = 2;

/** A job that so many polls could not get has been taken, most likely by another replica; if not, the sweep finds it. */
const MAX_PASSES = 4;

/**
 * The polls that this replica holds, and who is woken by a waiting job: the miners it is offered to by their rank, else the one that fits and
 * has waited longest. One poll is woken per job and replica, not all of them; a poll that is woken
 * claims in the database, which decides.
 */
export class Dispatcher {
  readonly #deps: DispatcherDeps;
  /** In the order of arrival. */
  readonly #waiters = new Set<Waiter>();
  readonly #byMiner = new Map<string, Set<Waiter>>();
  readonly #pending: Pending[] = [];
  readonly #reports: boolean;
  /** A thousand miners that poll at once, after a restart, must not look like a Postgres that does not answer. */
  readonly #gate: Gate;
  #entering = 0;
  #claims = 0;
  #stopped = false;

  constructor(deps: DispatcherDeps) {
    this.#deps = deps;
    this.#reports = deps.config.poolhub_url !== undefined;
    this.#gate = new Gate(GATE_PLACES_PER_CONNECTION * deps.config.db_pool_max);
    deps.notices.on('waiting', (job) => this.announce(job));
  }

  get held(): number {
    return this.#waiters.size;
  }

  /** Whether there is room for another poll. */
  get hasRoom(): boolean {
    return !this.#stopped && this.#waiters.size + this.#entering < this.#deps.config.max_polls;
  }

  /** Claims a job for a miner now. */
  claim(minerId: string, offer: MinerOffer): Promise<ClaimedJob | undefined> {
    return this.#gate.run(() => claimJob(this.#deps.db, minerId, offer, this.#reports));
  }

  /** Notes that a miner polls. @returns undefined when it must register first */
  async enter(minerId: string, sessionDigest: string | null): Promise<PollingMiner | undefined> {
    this.#entering += 1;
    try {
      return await this.#gate.run(() => seen(this.#deps.db, minerId, sessionDigest));
    } finally {
      this.#entering -= 1;
    }
  }

  /**
   * Waits until the miner gets a job, `waitMs` are over, the signal aborts or the process stops. The first look is the caller's, after
   * this has begun: what comes between is not missed.
   */
  wait(
    minerId: string,
    offer: MinerOffer,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<ClaimedJob | undefined> {
    return new Promise((resolve) => {
      const settle = (job: ClaimedJob | undefined) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        this.#forget(waiter);
        resolve(job);
      };
      const waiter: Waiter = { minerId, offer, claiming: false, missed: undefined, settle };
      const end = () => {
        // A claim under way may have got a job: it settles the poll itself.
        if (waiter.claiming) this.#forget(waiter);
        else settle(undefined);
      };
      const timer = setTimeout(end, waitMs);
      signal.addEventListener('abort', end, { once: true });
      this.#waiters.add(waiter);
      const own = this.#byMiner.get(minerId) ?? new Set();
      this.#byMiner.set(minerId, own.add(waiter));
      this.#serve(waiter, undefined);
    });
  }

  /** Wakes a poll for a job that may be taken. */
  announce(job: JobWaiting): void {
    this.#wake({ job, passes: 0 });
  }

  /** Answers every poll without a job, and holds no more. */
  stop(): void {
    this.#stopped = true;
    this.#pending.length = 0;
    for (const waiter of this.#waiters) if (!waiter.claiming) waiter.settle(undefined);
  }

  #wake(pending: Pending): void {
    if (this.#waiters.size === 0 || pending.passes > MAX_PASSES) return;
    if (this.#claims >= MAX_CLAIMS_AT_A_TIME) {
      if (this.#pending.length < this.#deps.config.max_polls) this.#pending.push(pending);
      return;
    }
    const waiter = this.#choose(pending.job);
    if (waiter === undefined) return;
    if (waiter.claiming) waiter.missed ??= pending;
    else this.#serve(waiter, pending);
  }

  /** A poll for a job, one that is claiming already only if there is no other. */
  #choose({ offered, needs }: JobWaiting): Waiter | undefined {
    let claiming: Waiter | undefined;
    const candidates =
      offered.length > 0
        ? offered.flatMap((minerId) => [...(this.#byMiner.get(minerId) ?? [])])
        : this.#waiters;
    for (const waiter of candidates) {
      if (offered.length === 0 && !fits(needs, waiter.offer)) continue;
      if (!waiter.claiming) return waiter;
      if (waiter.missed === undefined) claiming ??= waiter;
    }
    return claiming;
  }

  #serve(waiter: Waiter, pending: Pending | undefined): void {
    waiter.claiming = true;
    this.#claims += 1;
    this.claim(waiter.minerId, waiter.offer)
      .then((claimed) => this.#served(waiter, claimed, pending))
      .catch((error: unknown) => this.#failed(waiter, error))
      .finally(() => {
        this.#claims -= 1;
        const next = this.#pending.shift();
        if (next !== undefined) this.#wake(next);
      });
  }

  #served(waiter: Waiter, claimed: ClaimedJob | undefined, pending: Pending | undefined): void {
    const { missed } = waiter;
    waiter.claiming = false;
    waiter.missed = undefined;
    if (claimed !== undefined || !this.#waiters.has(waiter) || this.#stopped) waiter.settle(claimed);
    else {
      // It may be full: whoever comes after it is asked first the next time.
      this.#waiters.delete(waiter);
      this.#waiters.add(waiter);
    }
    for (const left of [pending, missed]) {
      if (left === undefined || left.job.job_id === claimed?.row.job_id) continue;
      // Who was woken for it and got nothing would get nothing again; who missed it has not looked since.
      const again = left === missed || claimed !== undefined ? left : passOn(left, waiter.minerId);
      if (again !== undefined) this.#wake(again);
    }
  }

  #failed(waiter: Waiter, error: unknown): void {
    waiter.claiming = false;
    waiter.missed = undefined;
    const { log } = this.#deps;
    if (!isPostgresUnavailable(error)) log.error({ err: error }, 'a claim failed');
    // The poll goes on: Postgres may be back before it is over. One that was given up meanwhile has nothing to wait for.
    if (!this.#waiters.has(waiter) || this.#stopped) waiter.settle(undefined);
  }

  #forget(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    const own = this.#byMiner.get(waiter.minerId);
    own?.delete(waiter);
    if (own?.size === 0) this.#byMiner.delete(waiter.minerId);
    this.#deps.metrics.pollsHeld.set(this.#waiters.size);
  }
}

/** The job for the next poll; undefined when those it was offered to have all been asked. */
function passOn({ job, passes }: Pending, minerId: string): Pending | undefined {
  if (job.offered.length === 0) return { job, passes: passes + 1 };
  const offered = job.offered.filter((id) => id !== minerId);
  return offered.length === 0 ? undefined : { job: { ...job, offered }, passes: passes + 1 };
}
