import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

export interface LatencySummary {
  readonly count: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

const US_PER_MS = 1_000;

/** What is shown as recent covers the last one to two of these, ms. */
const SPAN_MS = 5_000;

/** Milliseconds, kept in HDR histograms: bounded memory, three significant digits. */
export class Latencies {
  readonly #all = createHistogram();
  #current = createHistogram();
  #previous = createHistogram();
  #spanEndsMs = performance.now() + SPAN_MS;

  record(ms: number): void {
    this.#turn();
    const us = Math.max(1, Math.round(ms * US_PER_MS));
    this.#all.record(us);
    this.#current.record(us);
  }

  /** Since the beginning. */
  total(): LatencySummary {
    return summaryOf(this.#all);
  }

  /** Of the last 5 to 10 seconds. */
  recent(): LatencySummary {
    this.#turn();
    const both = createHistogram();
    both.add(this.#previous);
    both.add(this.#current);
    return summaryOf(both);
  }

  #turn(): void {
    const nowMs = performance.now();
    if (nowMs < this.#spanEndsMs) return;
    this.#previous = nowMs < this.#spanEndsMs + SPAN_MS ? this.#current : createHistogram();
    this.#current = createHistogram();
    this.#spanEndsMs = nowMs + SPAN_MS;
  }
}

function summaryOf(histogram: RecordableHistogram): LatencySummary {
  const at = (percentile: number) =>
    histogram.count === 0 ? 0 : histogram.percentile(percentile) / US_PER_MS;
  return { count: histogram.count, p50_ms: at(50), p99_ms: at(99) };
}
