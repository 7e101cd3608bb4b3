/** Turns a counter that only grows into a rate over the time between two readings. */
export class RateMeter {
  #count = 0;
  #atMs = performance.now();
  #perSec = 0;

  /** @returns the rate per second since the last reading */
  read(count: number): number {
    const nowMs = performance.now();
    if (nowMs > this.#atMs) this.#perSec = ((count - this.#count) * 1000) / (nowMs - this.#atMs);
    this.#count = count;
    this.#atMs = nowMs;
    return this.#perSec;
  }
}
