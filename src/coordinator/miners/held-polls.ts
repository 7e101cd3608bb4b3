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

/** Polls that offer the same. */
interface Group {
  /** Text of the offer. */
  readonly key: string;
  readonly offer: MinerOffer;
  readonly all: Set<HeldPoll>;
  /** Since which turn they are free; who has waited longest without being asked comes first. */
  readonly free: Map<HeldPoll, number>;
}

/** Most jobs fit one of so many polls that have waited longest. */
const DIRECT_LOOKS = 16;

/**
 * The polls that a replica holds, and which of them a job is for. Miners of a fleet offer much the same: a job that fits few of them is compared with
 * each offer once, not with each poll.
 */
export class HeldPolls {
  /** By their keys. */
  readonly #groups = new Map<string, Group>();
  readonly #groupOf = new Map<HeldPoll, Group>();
  /** Who has waited longest without being asked comes first. */
  readonly #free = new Set<HeldPoll>();
  readonly #byMiner = new Map<string, Set<HeldPoll>>();
  #turn = 0;

  get size(): number {
    return this.#groupOf.size;
  }

  /** Those that are not busy. */
  get free(): Iterable<HeldPoll> {
    return this.#free;
  }

  has(poll: HeldPoll): boolean {
    return this.#groupOf.has(poll);
  }

  of(minerId: string): Iterable<HeldPoll> {
    return this.#byMiner.get(minerId) ?? [];
  }

  add(poll: HeldPoll): void {
    const key = JSON.stringify(poll.offer);
    const group = this.#groups.get(key) ?? { key, offer: poll.offer, all: new Set(), free: new Map() };
    this.#groups.set(key, group);
    this.#groupOf.set(poll, group);
    group.all.add(poll);
    this.#byMiner.set(poll.minerId, (this.#byMiner.get(poll.minerId) ?? new Set()).add(poll));
    if (!poll.isBusy) this.release(poll);
  }

  delete(poll: HeldPoll): void {
    this.#free.delete(poll);
    const own = this.#byMiner.get(poll.minerId);
    own?.delete(poll);
    if (own?.size === 0) this.#byMiner.delete(poll.minerId);
    const group = this.#groupOf.get(poll);
    if (group === undefined) return;
    this.#groupOf.delete(poll);
    group.free.delete(poll);
    group.all.delete(poll);
    if (group.all.size === 0) this.#groups.delete(group.key);
  }

  occupy(poll: HeldPoll): void {
    poll.isBusy = true;
    this.#free.delete(poll);
    this.#groupOf.get(poll)?.free.delete(poll);
  }

  /** It waits on, behind the others. */
  release(poll: HeldPoll): void {
    poll.isBusy = false;
    this.#turn += 1;
    this.#free.add(poll);
    this.#groupOf.get(poll)?.free.set(poll, this.#turn);
  }

  /** Whom to ask for a job: the miners it is offered to by their rank, else the one that fits and has waited longest. */
  choose(pending: Pending): HeldPoll | undefined {
    const { offered } = pending.job;
    if (offered.length === 0) return this.#longestWaiting(pending);
    for (const id of offered) for (const poll of this.of(id)) if (this.mayTake(poll, pending)) return poll;
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
    if (this.#free.size === this.size) return false;
    const { needs, offered } = pending.job;
    if (offered.length > 0) return offered.some((id) => this.#byMiner.has(id) && !pending.full.includes(id));
    for (const { offer, all } of this.#groups.values())
      if (fits(needs, offer)) for (const { minerId } of all) if (!pending.full.includes(minerId)) return true;
    return false;
  }

  #longestWaiting(pending: Pending): HeldPoll | undefined {
    let looks = 0;
    for (const poll of this.#free) {
      if (this.mayTake(poll, pending)) return poll;
      looks += 1;
      if (looks === DIRECT_LOOKS) break;
    }
    if (looks === this.#free.size) return undefined;
    let best: HeldPoll | undefined;
    let since = Number.POSITIVE_INFINITY;
    for (const { offer, free } of this.#groups.values()) {
      if (free.size === 0 || !fits(pending.job.needs, offer)) continue;
      for (const [poll, turn] of free) {
        if (turn > since) break;
        if (!this.mayTake(poll, pending)) continue;
        best = poll;
        since = turn;
        break;
      }
    }
    return best;
  }
}

function suits({ minerId, offer }: Polling, { job, full }: Pending): boolean {
  if (full.includes(minerId)) return false;
  return job.offered.length > 0 ? job.offered.includes(minerId) : fits(job.needs, offer);
}
