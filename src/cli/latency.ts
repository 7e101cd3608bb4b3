import { createHistogram } from 'node:perf_hooks';

export interface LatencySummary {
  readonly count: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

const US_PER_MS = 1_000;

/** Milliseconds, kept in an HDR histogram: bounded memory, three significant digits. */
export class Latencies {
  readonly #histogram = createHistogram();

  record(ms: number): void {
    this.#histogram.record(Math.max(1, Math.round(ms * US_PER_MS)));
  }

  summary(): LatencySummary {
    const at = (percentile: number) =>
      this.#histogram.count === 0 ? 0 : this.#histogram.percentile(percentile) / US_PER_MS;
    return { count: this.#histogram.count, p50_ms: at(50), p99_ms: at(99) };
  }
}
