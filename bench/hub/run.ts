import type { FleetKind } from '../../src/cli/fleet.ts';
import { formatTable } from '../../src/cli/table.ts';
import type { Benchmark, Options } from '../support/benchmark.ts';
import { median, round } from '../support/statistics.ts';
import type { Undo } from '../support/undo.ts';
import { type Measured, measureBare, measureHttpBeats, measureMatches } from './http-load.ts';
import { type HubUnderLoad, startHubUnderLoad } from './hub-process.ts';
import { measureSocketBeats } from './socket-load.ts';

interface HubReport {
  readonly miners: number;
  readonly fleet: FleetKind;
  readonly connections: number;
  /** Heartbeats a second; null where this benchmark does not measure them. */
  readonly ws_per_s: number | null;
  readonly http_per_s: number | null;
  readonly match_per_s: number | null;
  /** Of the benchmark's own subject: heartbeats over WebSocket, or matches over HTTP. */
  readonly p50_ms: number;
  readonly p99_ms: number;
  /** GET /livez of the same server in the same rounds. */
  readonly bare_per_s: number;
  readonly measured: Readonly<Record<string, Figures>>;
}

interface Figures {
  readonly per_s: number;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

const WARM_UP_SEC = 1;

type Measure = (hub: HubUnderLoad, load: Options) => Promise<Measured>;

/** Heartbeats through a whole hub. */
export const heartbeatBenchmark: Benchmark<HubReport> = {
  async run(options, undo, progress) {
    const figures = await measureAll(options, undo, progress, {
      bare: measureBare,
      ws: measureSocketBeats,
      http: measureHttpBeats,
    });
    return {
      ...about(options),
      ws_per_s: figures.ws.per_s,
      http_per_s: figures.http.per_s,
      match_per_s: null,
      p50_ms: figures.ws.p50_ms,
      p99_ms: figures.ws.p99_ms,
      bare_per_s: figures.bare.per_s,
      measured: figures,
    };
  },
  failed: () => false,
  table,
};

/** The HTTP calls that coordinators and miners make most, through a whole hub. */
export const httpBenchmark: Benchmark<HubReport> = {
  async run(options, undo, progress) {
    const figures = await measureAll(options, undo, progress, {
      bare: measureBare,
      match: measureMatches,
      http: measureHttpBeats,
    });
    return {
      ...about(options),
      ws_per_s: null,
      http_per_s: figures.http.per_s,
      match_per_s: figures.match.per_s,
      p50_ms: figures.match.p50_ms,
      p99_ms: figures.match.p99_ms,
      bare_per_s: figures.bare.per_s,
      measured: figures,
    };
  },
  failed: () => false,
  table,
};

function about({ miners, fleet, connections }: Options) {
  return { miners, fleet, connections };
}

/** Every measurement takes its turn in each round, so that what disturbs the machine disturbs all; medians of the rounds. */
async function measureAll<K extends string>(
  options: Options,
  undo: Undo,
  progress: (line: string) => void,
  measures: Readonly<Record<K, Measure>>,
): Promise<Record<K, Figures>> {
  const hub = await startHubUnderLoad(options, undo, progress);
  const names = Object.keys(measures) as K[];
  const found = new Map<K, Measured[]>(names.map((name) => [name, []]));
  progress('warming up');
  for (const name of names)
    await measures[name](hub, { ...options, seconds: Math.min(WARM_UP_SEC, options.seconds) });
  for (let roundNumber = 1; roundNumber <= options.rounds; roundNumber += 1) {
    for (const name of names) {
      progress(`round ${roundNumber} of ${options.rounds}: ${name}`);
      found.get(name)?.push(await measures[name](hub, options));
    }
  }
  const entries = names.map((name) => [name, figuresOf(found.get(name) ?? [])] as const);
  return Object.fromEntries(entries) as Record<K, Figures>;
}

function figuresOf(rounds: readonly Measured[]): Figures {
  return {
    per_s: Math.round(median(rounds.map(({ perSec }) => perSec))),
    p50_ms: round(median(rounds.map(({ latency }) => latency.percentileMs(50))), 3),
    p99_ms: round(median(rounds.map(({ latency }) => latency.percentileMs(99))), 3),
  };
}

const LABELS: Readonly<Record<string, string>> = {
  bare: 'bare route (GET /livez)',
  ws: 'heartbeat over WebSocket',
  http: 'heartbeat over HTTP',
  match: 'match over HTTP',
};

function table({ miners, fleet, connections, bare_per_s, measured }: HubReport): string {
  const rows = Object.entries(measured).map(([name, { per_s, p50_ms, p99_ms }]) => [
    LABELS[name] ?? name,
    per_s,
    round(bare_per_s / per_s, 2),
    p50_ms,
    p99_ms,
  ]);
  return [
    formatTable(['', 'PER SECOND', 'TIMES BARE', 'P50 ms', 'P99 ms'], rows),
    '',
    `${miners} miners (${fleet}), one hub, ${connections} connections with one call under way each`,
  ].join('\n');
}
