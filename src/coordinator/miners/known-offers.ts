import { type MinerOffer, offerOf } from './fit.ts';
import type { Polling } from './held-polls.ts';
import type { PollingMiner } from './store.ts';

interface Known {
  readonly sessionDigest: string;
  readonly offer: MinerOffer;
}

/**
 * What miners offer, so that a poll need not read it. A registration gives a miner new capabilities and a new session at once, so what is
 * known of a session stays true; whether it is still the miner's own, the statement of the poll sees.
 */
export class KnownOffers {
  readonly #max: number;
  /** The longest unused first. */
  readonly #byMiner = new Map<string, Known>();

  constructor(max: number) {
    this.#max = max;
  }

  find(minerId: string, sessionDigest: string | null): Polling | undefined {
    const known = this.#byMiner.get(minerId);
    if (known === undefined || known.sessionDigest !== sessionDigest) return undefined;
    this.#keep(minerId, known);
    return { minerId, ...known };
  }

  learn(minerId: string, { session_digest: sessionDigest, capabilities, region }: PollingMiner): Polling {
    const known = { sessionDigest, offer: offerOf(capabilities, region) };
    this.#keep(minerId, known);
    return { minerId, ...known };
  }

  forget(minerId: string): void {
    this.#byMiner.delete(minerId);
  }

  #keep(minerId: string, known: Known): void {
    this.#byMiner.delete(minerId);
    this.#byMiner.set(minerId, known);
    const [oldest] = this.#byMiner.size > this.#max ? this.#byMiner.keys() : [];
    if (oldest !== undefined) this.#byMiner.delete(oldest);
  }
}
