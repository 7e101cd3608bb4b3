import type { JobWaiting } from '../notices.ts';
import type { Look } from './claim.ts';
import { fits, type MinerOffer } from './fit.ts';

/** A miner that polls. */
export interface Polling {
  readonly minerId: string;
  /** Of the session that polls: one that names none is bound to the session it was begun in. */
  readonly sessionDigest: string;
  readonly offer: MinerOffer;
}

/** A poll that is held. */
export interface HeldPoll extends Polling {
  /** A statement that may give it a job is under way, or about to be. */
  isBusy: boolean;
  readonly settle: (look: Look | undefined) => void;
  readonly fail: (error: unknown) => void;
}

/** A waiting job, and the miners that turned out to be full. */
export interface Pending {
  readonly job: JobWaiting;
  readonly full: readonly string[];
}

/** The polls that a replica holds, and which of them a job is for. */
export class HeldPolls {
  readonly #all = new Set<HeldPoll>();
  /** Who has waited longest without being asked comes first. */
  readonly #free = new Set<HeldPoll>();
  readonly #byMiner = new Map<string, Set<HeldPoll>>();

  get size(): number {
    return this.#all.size;
  }

  /** Those that are not busy. */
  get free(): Iterable<HeldPoll> {
    return this.#free;
  }

  has(poll: HeldPoll): boolean {
    return this.#all.has(poll);
  }

  of(minerId: string): Iterable<HeldPoll> {
    return this.#byMiner.get(minerId) ?? [];
  }

  add(poll: HeldPoll): void {
    this.#all.add(poll);
    this.#byMiner.set(poll.minerId, (this.#byMiner.get(poll.minerId) ?? new Set()).add(poll));
    if (!poll.isBusy) this.#free.add(poll);
  }

  delete(poll: HeldPoll): void {
    this.#all.delete(poll);
    this.#free.delete(poll);
    const own = this.#byMiner.get(poll.minerId);
    own?.delete(poll);
    if (own?.size === 0) this.#byMiner.delete(poll.minerId);
  }

  occupy(poll: HeldPoll): void {
    poll.isBusy = true;
    this.#free.delete(poll);
  }

  /** It waits on, behind the others. */
  release(poll: HeldPoll): void {
    poll.isBusy = false;
    this.#free.add(poll);
  }

  /** Whom to ask for a job: the miners it is offered to by their rank, else the one that fits and has waited longest. */
  choose(pending: Pending): HeldPoll | undefined {
    const { offered } = pending.job;
    const candidates = offered.length > 0 ? offered.flatMap((id) => [...this.of(id)]) : this.#free;
    for (const poll of candidates) if (this.mayTake(poll, pending)) return poll;
    return undefined;
  }

  /** Polls of one miner are asked one after the other: they would reach for the same place. */
  mayTake(poll: HeldPoll, pending: Pending): boolean {
    if (poll.isBusy || !suits(poll, pending)) return false;
    const own = this.#byMiner.get(poll.minerId);
    return own === undefined || own.size === 1 || ![...own].some(({ isBusy }) => isBusy);
  }

  /** Whether a poll that cannot be asked now may be asked for the job later. */
  isWorthWaiting(pending: Pending): boolean {
    if (this.#free.size === this.#all.size) return false;
    for (const poll of this.#all) if (suits(poll, pending)) return true;
    return false;
  }
}

function suits({ minerId, offer }: Polling, { job, full }: Pending): boolean {
  if (full.includes(minerId)) return false;
  return job.offered.length > 0 ? job.offered.includes(minerId) : fits(job.needs, offer);
}
