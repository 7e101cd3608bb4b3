import { AppError, unavailable } from '../../platform/errors.ts';

export interface StreamLimits {
  readonly max_streams: number;
  readonly max_streams_per_client: number;
}

/** A stream ends when its client wants it to, so nobody knows when there is room; a browser comes back by itself. */
const RETRY_SEC = 5;

/** The event streams and stream sockets that this process has open: how many may be, and how all of them end. */
export class Streams {
  readonly #limits: StreamLimits;
  readonly #onCount: (open: number) => void;
  readonly #enders = new Set<() => void>();
  readonly #byClient = new Map<string, number>();
  #stopped = false;

  constructor(limits: StreamLimits, onCount: (open: number) => void) {
    this.#limits = limits;
    this.#onCount = onCount;
  }

  /**
   * Asks for room for another stream.
   * @throws AppError `rate_limited` when the client has its share, `unavailable` when the process has all that it may or stops
   */
  admit(clientId: string): void {
    const { max_streams: max, max_streams_per_client: share } = this.#limits;
    if (this.#stopped || this.#enders.size >= max) throw unavailable('another stream');
    if ((this.#byClient.get(clientId) ?? 0) >= share)
      throw new AppError('rate_limited', `a client may have ${share} streams`, {
        retry_after_sec: RETRY_SEC,
      });
  }

  /** @param end called when the process stops. @returns what to call when the stream is over */
  join(clientId: string, end: () => void): () => void {
    const own = () => end();
    this.#enders.add(own);
    this.#count(clientId, 1);
    return () => {
      if (this.#enders.delete(own)) this.#count(clientId, -1);
    };
  }

  /** Ends every stream. */
  stop(): void {
    this.#stopped = true;
    for (const end of this.#enders) end();
  }

  #count(clientId: string, change: 1 | -1): void {
    const open = (this.#byClient.get(clientId) ?? 0) + change;
    if (open === 0) this.#byClient.delete(clientId);
    else this.#byClient.set(clientId, open);
    this.#onCount(this.#enders.size);
  }
}
