import { type MinerOffer, offerOf } from './fit.ts';
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

  find(minerId: string, sessionDigest: string | null): MinerOffer | undefined {
    const known = this.#byMiner.get(minerId);
    if (known === undefined || known.sessionDigest !== sessionDigest) return undefined;
    this.#keep(minerId, known);
    return known.offer;
  }

  /** @param miner as read under this session; one that names no session is not kept */
  learn(minerId: string, sessionDigest: string | null, miner: PollingMiner): MinerOffer {
    const offer = offerOf(miner.capabilities, miner.region);
    if (sessionDigest !== null) this.#keep(minerId, { sessionDigest, offer });
    return offer;
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
