import type { Redis } from 'ioredis';
import type { FleetKind } from '../../src/cli/fleet.ts';
import { formatTable } from '../../src/cli/table.ts';
import { masters } from '../../src/platform/redis.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import type { Latency } from '../hub/latency.ts';
import { readPool } from '../match/pool.ts';
import { type Shape, shapesOf } from '../match/shapes.ts';
import type { Benchmark, Options } from '../support/benchmark.ts';
import { cpuMs } from '../support/cpu.ts';
import { redisCpuMs } from '../support/redis-cpu.ts';
import { ascending, quantile, round } from '../support/statistics.ts';
import { type HubState, settledState } from './hub-state.ts';
import { roomFor } from './limits.ts';
import type { Answer, Counts } from './messages.ts';
import { type SocketHub, startSocketHub } from './socket-hub.ts';
import { matchSteadily } from './steady-matches.ts';

/** Milliseconds, the middle and the slowest of a hundred; null when nothing was measured. */
interface Spread {
  readonly p50_ms: number | null;
  readonly p99_ms: number | null;
}

/** Processor time of a phase, percent of one core; null where the system does not tell. */
interface Load {
  readonly hub_pct: number | null;
  readonly redis_pct: number | null;
  /** The processes with the miners: what the measurement itself costs. */
  readonly clients_pct: number | null;
}

interface SocketsReport {
  readonly miners: number;
  readonly fleet: FleetKind;
  /** How many were asked for, and which limit of this machine kept out the rest. */
  readonly asked: number;
  readonly limited_by: string | null;
  readonly lease_sec: number;
  /** From the first registration to the last open socket. */
  readonly connect_sec: number;
  readonly refused: number;
  readonly lost: number;
  readonly failed_beats: number;
  /** Why, by error or close code. */
  readonly reasons: Readonly<Record<'refused' | 'lost' | 'failed', Counts>>;
  readonly hub_rss_mb: Readonly<Record<'before' | 'beating' | 'settled', number>>;
  readonly rss_bytes_per_socket: number;
  readonly heap_bytes_per_socket: number;
  readonly beats_per_s: number;
  /** From sending a heartbeat to its answer, and from the moment that the server had set. */
  readonly beat_delay: Spread;
  readonly beat_late: Spread;
  readonly matches_per_s: number;
  /** Matches without an answer within 10 s, in both phases. */
  readonly failed_matches: number;
  /** While all beat, and while the same sockets are silent. */
  readonly match_beating: Spread;
  readonly match_silent: Spread;
  readonly load_beating: Load;
  readonly load_silent: Load;
}

const MATCH_TIMEOUT_MS = 10_000;
const WARM_UP_SEC = 2;
const MIB = 2 ** 20;

/** Idle miners, each with a WebSocket of its own, on one hub: memory, processor time, delays, and matches meanwhile. */
export const socketsBenchmark: Benchmark<SocketsReport> = {
  async run(options, undo, progress) {
    const room = roomFor(options.miners);
    if (room.limitedBy !== null) {
      progress(`${room.miners} miners instead of ${options.miners}: ${room.limitedBy}`);
    }
    const fitting = { ...options, miners: room.miners };
    const hub = await startSocketHub(fitting, undo);
    const before = await settledState(hub.program);
    progress(`connecting ${room.miners} miners from ${hub.generator.processes} processes`);
    const startedMs = performance.now();
    const connected = await hub.generator.connect();
    const connectSec = (performance.now() - startedMs) / 1000;
    if (connected.open === 0) throw new Error(`no miner could connect: ${JSON.stringify(connected.refused)}`);
    progress(`${connected.open} sockets after ${round(connectSec, 1)} s`);
    const shapes = shapesOf(await readPool(hub.registry));
    const phases = await measurePhases(hub, shapes, fitting, progress);
    const { beating, silent, settled, last } = phases;
    const sockets = connected.open;
    return {
      miners: room.miners,
      fleet: options.fleet,
      asked: options.miners,
      limited_by: room.limitedBy,
      lease_sec: options.lease,
      connect_sec: round(connectSec, 1),
      refused: total(connected.refused),
      lost: room.miners - total(connected.refused) - last.open,
      failed_beats: total(last.failed),
      reasons: { refused: last.refused, lost: last.lost, failed: last.failed },
      hub_rss_mb: {
        before: megabytes(before.rss),
        beating: megabytes(settled.rss_before),
        settled: megabytes(settled.rss),
      },
      rss_bytes_per_socket: Math.round((settled.rss - before.rss) / sockets),
      heap_bytes_per_socket: Math.round((held(settled) - held(before)) / sockets),
      beats_per_s: round(beating.beats.delaysUs.length / beating.seconds, 1),
      beat_delay: spreadOf(beating.beats.delaysUs),
      beat_late: spreadOf(beating.beats.lateUs),
      matches_per_s: options.rate,
      failed_matches: beating.failedMatches + silent.failedMatches,
      match_beating: spreadOfLatency(beating.matches),
      match_silent: spreadOfLatency(silent.matches),
      load_beating: beating.load,
      load_silent: silent.load,
    };
  },
  failed: ({ refused, lost, failed_beats, failed_matches }) =>
    refused + lost + failed_beats + failed_matches > 0,
  table,
};

interface Phase {
  readonly seconds: number;
  readonly matches: Latency;
  readonly failedMatches: number;
  readonly beats: Answer;
  readonly load: Load;
}

/** The same matches while all beat and while nobody does; the leases outlast the silence. */
async function measurePhases(
  hub: SocketHub,
  shapes: readonly Shape[],
  { seconds, rate, lease }: Options,
  progress: (line: string) => void,
): Promise<{ beating: Phase; silent: Phase; settled: HubState; last: Answer }> {
  const { generator } = hub;
  const client = new HubClient({
    urls: [hub.url],
    timeoutMs: MATCH_TIMEOUT_MS,
    maxAttempts: 1,
    coordinatorSecret: hub.coordinatorSecret,
  });
  const matchFor = (phaseSec: number, onFailed: () => void) =>
    matchSteadily(client, shapes, rate, phaseSec, onFailed);
  await matchFor(Math.min(WARM_UP_SEC, seconds), () => {});
  progress(`all beat for ${seconds} s, ${rate} matches a second meanwhile`);
  const beating = await measurePhase(hub, (onFailed) => matchFor(seconds, onFailed));
  const settled = await settledState(hub.program);
  await generator.silence();
  // Who beat last right before the silence has a lease yet, less an interval: two thirds of it.
  const silentSec = Math.min(seconds, lease / 2);
  progress(`nobody beats for ${silentSec} s, the matches go on`);
  const silent = await measurePhase(hub, (onFailed) => matchFor(silentSec, onFailed));
  return { beating, silent, settled, last: silent.beats };
}

async function measurePhase(
  hub: SocketHub,
  work: (onFailed: () => void) => Promise<Latency>,
): Promise<Phase> {
  const { generator } = hub;
  const before = await cpuOf(hub, await generator.measure());
  const startedMs = performance.now();
  let failedMatches = 0;
  const matches = await work(() => {
    failedMatches += 1;
  });
  const beats = await generator.report();
  const seconds = (performance.now() - startedMs) / 1000;
  const after = await cpuOf(hub, beats);
  const percent = (from: number | undefined, to: number | undefined) =>
    from === undefined || to === undefined ? null : round((to - from) / (seconds * 10), 1);
  return {
    seconds,
    matches,
    failedMatches,
    beats,
    load: {
      hub_pct: percent(before.hub, after.hub),
      redis_pct: percent(before.redis, after.redis),
      clients_pct: percent(before.clients, after.clients),
    },
  };
}

/** Processor time so far, ms. */
async function cpuOf({ program, registry }: SocketHub, { cpuMs: clients }: Answer) {
  const [node] = masters(registry.redis) as [Redis];
  const redis = await redisCpuMs(node);
  return { hub: await cpuMs(program.pid), redis: Number.isNaN(redis) ? undefined : redis, clients };
}

function held({ heap, external }: HubState): number {
  return heap + external;
}

function megabytes(bytes: number): number {
  return round(bytes / MIB, 1);
}

function total(counts: Counts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

function spreadOf(timesUs: readonly number[]): Spread {
  if (timesUs.length === 0) return { p50_ms: null, p99_ms: null };
  const sorted = ascending(timesUs);
  const at = (share: number) => round(quantile(sorted, share) / 1000, 2);
  return { p50_ms: at(0.5), p99_ms: at(0.99) };
}

function spreadOfLatency(latency: Latency): Spread {
  if (latency.count === 0) return { p50_ms: null, p99_ms: null };
  return { p50_ms: round(latency.percentileMs(50), 2), p99_ms: round(latency.percentileMs(99), 2) };
}

function table(report: SocketsReport): string {
  const { hub_rss_mb, load_beating, load_silent, match_beating, match_silent } = report;
  const either = (value: number | null) => value ?? '-';
  const ratio = (a: number | null, b: number | null) => (a && b ? round(a / b, 2) : '-');
  const compared: [string, number | null, number | null][] = [
    ['match over HTTP, p50 ms', match_beating.p50_ms, match_silent.p50_ms],
    ['match over HTTP, p99 ms', match_beating.p99_ms, match_silent.p99_ms],
    ['hub, % of a core', load_beating.hub_pct, load_silent.hub_pct],
    ['Redis, % of a core', load_beating.redis_pct, load_silent.redis_pct],
    ['processes of the miners, % of a core', load_beating.clients_pct, load_silent.clients_pct],
    ['heartbeats a second', report.beats_per_s, 0],
    ['heartbeat, sent to answered, p50 ms', report.beat_delay.p50_ms, null],
    ['heartbeat, sent to answered, p99 ms', report.beat_delay.p99_ms, null],
    ['heartbeat, due to answered, p50 ms', report.beat_late.p50_ms, null],
    ['heartbeat, due to answered, p99 ms', report.beat_late.p99_ms, null],
  ];
  const rows = compared.map(([name, beating, silent]) => [
    name,
    either(beating),
    either(silent),
    ratio(beating, silent),
  ]);
  const fewer = report.limited_by === null ? '' : ` (${report.asked} asked for: ${report.limited_by})`;
  return [
    formatTable(['', 'ALL BEAT', 'SILENT', 'RATIO'], rows),
    '',
    `${report.miners} sockets on one hub${fewer}, leases of ${report.lease_sec} s, ${report.matches_per_s} matches a second`,
    `resident memory ${hub_rss_mb.before} MiB before, ${hub_rss_mb.beating} while all beat, ${hub_rss_mb.settled} after collecting garbage:`,
    `  ${report.rss_bytes_per_socket} bytes a socket, of them ${report.heap_bytes_per_socket} in the heap`,
    `connected in ${report.connect_sec} s; refused ${report.refused}, lost ${report.lost}, failed ${report.failed_beats} heartbeats and ${report.failed_matches} matches`,
  ].join('\n');
}
