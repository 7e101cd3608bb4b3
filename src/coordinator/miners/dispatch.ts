import type { Database } from '../../platform/db.ts';
import { isPostgresUnavailable, isUniqueViolation } from '../../platform/db-errors.ts';
import type { Logger } from '../../platform/logger.ts';
import type { CoordinatorConfig } from '../environment.ts';
import type { CoordinatorMetrics } from '../metrics.ts';
import type { JobWaiting, Notices } from '../notices.ts';
import { type Assignment, assign, type Look, look } from './claim.ts';
import { Gate } from './gate.ts';
import { type HeldPoll, HeldPolls, type Pending, type Polling } from './held-polls.ts';
import { KnownOffers } from './known-offers.ts';
import { seen } from './store.ts';

interface DispatcherDeps {
  readonly config: Pick<CoordinatorConfig, 'max_polls' | 'db_pool_max'>;
  readonly db: Database;
  readonly log: Logger;
  readonly metrics: CoordinatorMetrics;
  readonly notices: Notices;
}

interface Placement {
  readonly pending: Pending;
  readonly poll: HeldPoll;
}

const NOTHING: Look = { status: 'ONLINE', claimed: undefined };

/** Statements that give out jobs under way; what comes meanwhile goes together in the next. More than one, should a row be locked. */
const MAX_ASSIGNS_AT_A_TIME = 4;
/** Jobs of one statement. */
const MAX_ASSIGNED_TOGETHER = 100;

/** First looks of polls under way, per connection of the pool: the others wait here, and leave room for other calls. */
const LOOKS_PER_CONNECTION = 2;

/** A job for which so many miners were full is left to the sweep. */
const MAX_FULL = 4;
/** Jobs that wait for a poll that is busy; more are left to the sweep. */
const MAX_UNPLACED = 1000;

/**
 * Gives the jobs that come in to the polls that this replica holds. A poll first looks for itself. From then on it waits until a job is announced;
 * who gets which job is chosen here and written down for many at once, and the database decides, since other replicas
 * choose among the same jobs.
 */
export class Dispatcher {
  readonly #deps: DispatcherDeps;
  readonly #polls = new HeldPolls();
  readonly #offers: KnownOffers;
  /** Jobs that only busy polls may fit, by id. */
  readonly #unplaced = new Map<string, Pending>();
  /** Jobs that are being given out. */
  readonly #placing = new Set<string>();
  readonly #batch: Placement[] = [];
  #flushing: NodeJS.Immediate | undefined;
  #assigns = 0;
  /** A thousand miners that poll at once, after a restart, must not look like a Postgres that does not answer. */
  readonly #gate: Gate;
  #entering = 0;
  #stopped = false;

  constructor(deps: DispatcherDeps) {
    this.#deps = deps;
    this.#gate = new Gate(LOOKS_PER_CONNECTION * deps.config.db_pool_max);
    this.#offers = new KnownOffers(deps.config.max_polls);
    deps.notices.on('waiting', (job) => this.announce(job));
  }

  get held(): number {
    return this.#polls.size;
  }

  /** Whether there is room for another poll. */
  get hasRoom(): boolean {
    return !this.#stopped && this.#polls.size + this.#entering < this.#deps.config.max_polls;
  }

  /**
   * A miner that polls, with what it has to offer.
   * @param sessionDigest of the session it says it has; null when it says nothing
   * @returns undefined when it must register first
   */
  async enter(minerId: string, sessionDigest: string | null): Promise<Polling | undefined> {
    const known = this.#offers.find(minerId, sessionDigest);
    if (known !== undefined) return known;
    this.#entering += 1;
    try {
      const miner = await this.#gate.run(() => seen(this.#deps.db, minerId, sessionDigest));
      return miner === undefined ? undefined : this.#offers.learn(minerId, miner);
    } finally {
      this.#entering -= 1;
    }
  }

  /**
   * Looks for a job for the miner, and waits until it gets one, `waitMs` are over, the signal aborts or the process stops. It may be given
   * one that is announced from the call on: what comes between is not missed.
   * @returns undefined when the miner has registered under another session
   * @throws what Postgres throws while it looks, unless it is only away
   */
  wait(polling: Polling, waitMs: number, signal: AbortSignal): Promise<Look | undefined> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        this.#forget(poll);
      };
      const settle = (found: Look | undefined) => {
        leave();
        resolve(found);
      };
      const fail = (error: unknown) => {
        leave();
        reject(error);
      };
      const poll: HeldPoll = { ...polling, isBusy: true, settle, fail };
      // A statement under way may give it a job: then that settles the poll.
      const end = () => (poll.isBusy ? this.#forget(poll) : settle(NOTHING));
      const timer = setTimeout(end, waitMs);
      signal.addEventListener('abort', end, { once: true });
      this.#polls.add(poll);
      this.#deps.metrics.pollsHeld.set(this.held);
      void this.#look(poll);
    });
  }

  /** Finds a poll for a job that may be taken. */
  announce(job: JobWaiting): void {
    this.#place({ job, full: [] });
  }

  /** Answers every poll without a job, and holds no more. */
  stop(): void {
    this.#stopped = true;
    this.#unplaced.clear();
    for (const poll of this.#polls.free) poll.settle(NOTHING);
  }

  async #look(poll: HeldPoll): Promise<void> {
    const { db, log } = this.#deps;
    try {
      const found = await this.#gate.run(async () => (this.#isOver(poll) ? NOTHING : look(db, poll)));
      if (found === undefined) this.#offers.forget(poll.minerId);
      if (found?.claimed !== undefined) this.#unplaced.delete(found.claimed.row.job_id);
      if (found?.status !== 'ONLINE' || found.claimed !== undefined) poll.settle(found);
      else this.#release(poll);
    } catch (error) {
      // Postgres may be back before the poll is over; or other polls of this miner were quicker, time and again, and it is full.
      if (isPostgresUnavailable(error) || isUniqueViolation(error)) this.#release(poll);
      else {
        log.error({ err: error }, 'a poll could not look for a job');
        poll.fail(error);
      }
    }
    this.#revisit(poll.minerId);
  }

  #place(pending: Pending): void {
    const { job_id: jobId } = pending.job;
    if (this.#stopped || this.#placing.has(jobId)) return;
    const poll = this.#polls.choose(pending);
    if (poll !== undefined) this.#pair({ pending, poll });
    else if (this.#unplaced.size < MAX_UNPLACED && this.#polls.isWorthWaiting(pending))
      this.#unplaced.set(jobId, pending);
  }

  #pair(placement: Placement): void {
    this.#polls.occupy(placement.poll);
    this.#placing.add(placement.pending.job.job_id);
    this.#batch.push(placement);
    // After all that came with the same reading of the sockets.
    this.#flushing ??= setImmediate(() => {
      this.#flushing = undefined;
      this.#flush();
    });
  }

  #flush(): void {
    while (this.#batch.length > 0 && this.#assigns < MAX_ASSIGNS_AT_A_TIME) {
      const placements = this.#batch.splice(0, MAX_ASSIGNED_TOGETHER);
      this.#assigns += 1;
      void this.#assign(placements).finally(() => {
        this.#assigns -= 1;
        this.#flush();
      });
    }
  }

  async #assign(placements: readonly Placement[]): Promise<void> {
    const { db, log } = this.#deps;
    const pairs = placements.map(({ pending: { job }, poll: { minerId, sessionDigest } }) => ({
      jobId: job.job_id,
      minerId,
      sessionDigest,
    }));
    try {
      const assignments = await assign(db, pairs);
      const byJob = new Map(assignments.map((assignment) => [assignment.jobId, assignment]));
      for (const placement of placements) this.#placed(placement, byJob.get(placement.pending.job.job_id));
    } catch (error) {
      if (isUniqueViolation(error) && placements.length > 1) {
        // One of them, which holds up the others no more.
        await Promise.all(placements.map((placement) => this.#assign([placement])));
        return;
      }
      if (!isPostgresUnavailable(error)) log.error({ err: error }, 'jobs could not be given out');
      // The polls go on: Postgres may be back before they are over, and the sweep finds the jobs.
      for (const placement of placements) this.#placed(placement, undefined);
    }
  }

  /** @param assignment undefined when it failed */
  #placed({ pending, poll }: Placement, assignment: Assignment | undefined): void {
    this.#placing.delete(pending.job.job_id);
    const isFormer = assignment?.isCurrent === false;
    if (assignment?.claimed !== undefined) poll.settle({ ...NOTHING, claimed: assignment.claimed });
    else if (isFormer) poll.settle(undefined);
    else this.#release(poll);
    // The present session of the miner may have a place.
    const full = isFormer ? pending.full : [...pending.full, poll.minerId];
    if (assignment?.hadPlace === false && full.length < MAX_FULL) this.#place({ ...pending, full });
    this.#revisit(poll.minerId);
  }

  #release(poll: HeldPoll): void {
    if (this.#isOver(poll)) poll.settle(NOTHING);
    else this.#polls.release(poll);
  }

  /** After a statement for one of its polls, a miner may take one of the jobs that waited for that. */
  #revisit(minerId: string): void {
    if (this.#unplaced.size === 0) return;
    for (const poll of this.#polls.of(minerId)) {
      for (const pending of this.#unplaced.values()) {
        if (!this.#polls.mayTake(poll, pending)) continue;
        this.#unplaced.delete(pending.job.job_id);
        this.#pair({ pending, poll });
        return;
      }
    }
    // Those that nobody is left to wait for are the sweep's.
    for (const [jobId, pending] of this.#unplaced)
      if (this.#polls.isWorthWaiting(pending)) return;
      else this.#unplaced.delete(jobId);
  }

  #isOver(poll: HeldPoll): boolean {
    return this.#stopped || !this.#polls.has(poll);
  }

  #forget(poll: HeldPoll): void {
    this.#polls.delete(poll);
    this.#deps.metrics.pollsHeld.set(this.held);
  }
}
