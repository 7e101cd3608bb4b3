import { createHistogram } from 'node:perf_hooks';

const US_PER_MS = 1000;

/** Milliseconds that calls took, in an HDR histogram: bounded memory, three significant digits. */
export class Latency {
  readonly #histogram = createHistogram();

  get count(): number {
    return this.#histogram.count;
  }

  record(ms: number): void {
    this.#histogram.record(Math.max(1, Math.round(ms * US_PER_MS)));
  }

  /** @param percent above 0, up to 100 */
  percentileMs(percent: number): number {
    return this.#histogram.percentile(percent) / US_PER_MS;
  }
}
