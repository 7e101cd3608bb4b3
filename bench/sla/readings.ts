import { sql } from 'drizzle-orm';
import { metricsQuery } from '../../src/hub/sla/queries.ts';
import { Latency } from '../hub/latency.ts';
import { round } from '../support/statistics.ts';
import type { MeasuredPool } from './pool.ts';

/** What reading the levels of one miner costs. */
export interface Readings {
  readonly calls: number;
  /** The last 24 h, as the call gives them without parameters. */
  readonly day: { readonly p50_ms: number; readonly p99_ms: number };
  /** A thousand rows, as many as a page may have: all that there are of a year. */
  readonly all: { readonly p50_ms: number; readonly p99_ms: number };
  /** Whether Postgres finds the rows by an index. */
  readonly by_index: boolean;
  /** What Postgres did for one call, line by line. */
  readonly plan: readonly string[];
}

const PAGE = 200;
const YEARS_HOURS = 24 * 400;
const CALL_TIMEOUT_MS = 30_000;
const WARM_UP_CALLS = 20;

/** Reads the levels of miners that have a past, one call at a time, each of another miner. */
export async function measureReadings(pool: MeasuredPool, calls: number): Promise<Readings> {
  const plan = await explain(pool);
  const day = await measure(pool, calls, '');
  const all = await measure(pool, calls, `?hours=${YEARS_HOURS}&limit=1000`);
  return {
    calls,
    day,
    all,
    by_index: plan.some((line) => /Index/.test(line)) && !plan.some((line) => /Seq Scan/.test(line)),
    plan,
  };
}

async function measure({ url, headers, pastMiners }: MeasuredPool, calls: number, query: string) {
  const latency = new Latency();
  for (let n = -WARM_UP_CALLS; n < calls; n += 1) {
    // A step that shares no factor with the number of miners leads to all of them, far from each other.
    const id = pastMiners[((n + WARM_UP_CALLS) * 7919) % pastMiners.length];
    const startedMs = performance.now();
    const response = await fetch(`${url}/sla/metrics/${id}${query}`, {
      headers,
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    const body = (await response.json()) as unknown[];
    if (n >= 0) latency.record(performance.now() - startedMs);
    if (response.status !== 200 || body.length === 0)
      throw new Error(`no levels of ${id}: ${response.status}`);
  }
  return { p50_ms: round(latency.percentileMs(50), 2), p99_ms: round(latency.percentileMs(99), 2) };
}

async function explain({ orm, pastMiners }: MeasuredPool): Promise<string[]> {
  const query = metricsQuery({
    minerId: pastMiners[0] as string,
    hours: YEARS_HOURS,
    limit: PAGE,
    cursor: undefined,
  });
  const rows = await orm.execute(sql`explain (analyze, buffers, costs off) ${query}`);
  return rows.map((row) => String(row['QUERY PLAN']));
}
