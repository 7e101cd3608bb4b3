/** The event streams and stream sockets that this process has open: how many may be, and how all of them end. */
export class Streams {
  readonly #max: number;
  readonly #onCount: (open: number) => void;
  readonly #enders = new Set<() => void>();
  #stopped = false;

  constructor(max: number, onCount: (open: number) => void) {
    this.#max = max;
    this.#onCount = onCount;
  }

  get hasRoom(): boolean {
    return !this.#stopped && this.#enders.size < this.#max;
  }

  /** @param end called when the process stops. @returns what to call when the stream is over */
  join(end: () => void): () => void {
    const own = () => end();
    this.#enders.add(own);
    this.#onCount(this.#enders.size);
    return () => {
      this.#enders.delete(own);
      this.#onCount(this.#enders.size);
    };
  }

  /** Ends every stream. */
  stop(): void {
    this.#stopped = true;
    for (const end of this.#enders) end();
  }
}
