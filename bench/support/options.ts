import { parseArgs } from 'node:util';
import { UsageError } from '../../src/cli/errors.ts';
import { numberOption, wholeOption } from '../../src/cli/numbers.ts';
import type { Options } from './benchmark.ts';

export const BENCHMARKS = ['match', 'heartbeat', 'http', 'scale', 'sockets', 'coordinator', 'sla'] as const;

/** Those without connections that each have one call under way. */
const WITHOUT_CONNECTIONS: ReadonlySet<BenchmarkName> = new Set([
  'match',
  'scale',
  'sockets',
  'coordinator',
  'sla',
]);

export type BenchmarkName = (typeof BENCHMARKS)[number];

export const USAGE = `Usage: npm run bench -- <match|heartbeat|http|scale|sockets|coordinator|sla> [options]
       npm run bench -- results [name...] [--folder <folder>] [options]

match      server-side time of a match for 13 kinds of requests, beside an empty script and Postgres
heartbeat  heartbeats a second over WebSocket and HTTP, beside a bare route of the same server
http       matches and heartbeats a second over HTTP, beside a bare route of the same server
scale      how the cost of a match grows with the pool, over 1, 4 and 16 shards
sockets    idle miners, each with a WebSocket, on one hub: memory, processor time, heartbeat delay, matches meanwhile
coordinator  miners that poll while jobs are submitted at a steady rate: none lost, none given twice, and how soon
sla        a collection of service levels while matches go on, and reading those of one miner beside millions of rows
results    runs all of these, or those that are named, and writes what they find into bench/RESULTS.md

Options:
  --miners <n>       how many miners are online (match 10000, scale at most 30000, sockets 20000, sla 100000, else 1000)
  --fleet <kind>     mixed, or equal: identical new miners (mixed)
  --seed <n>         the same seed makes the same fleet (1)
  --rounds <n>       rounds, of which the median counts (match 21, scale 7, coordinator 1, else 3)
  --calls <n>        match, scale: calls of each kind in a round (20); sla: readings (1000)
  --connections <n>  heartbeat, http: connections that each have one call under way (32)
  --seconds <n>      length of each measurement in a round (sockets 60, coordinator, sla 10, else 3)
  --rate <n>         coordinator: jobs a second (200); sockets, sla: matches a second (50)
  --lease <n>        sockets: seconds that a lease lasts; miners beat three times in it (60)
  --finished <n>     coordinator: jobs that are over already (0)
  --rows <n>         sla: measurements of the past (10000000)
  --json             print the report as one line of JSON
  --help             show this

REDIS_URL and DB_DSN name stores to measure on instead of private ones; a run takes back all that it writes there.
Times depend on the machine: compare figures of one run. See bench/README.md.`;

/** One run of one benchmark. */
export interface MeasureRequest {
  readonly help: false;
  readonly name: BenchmarkName;
  readonly json: boolean;
  readonly options: Options;
}

/** What the command line asked for. */
export type Request = { readonly help: true } | MeasureRequest;

const text = { type: 'string' } as const;
const flag = { type: 'boolean', default: false } as const;
const OPTIONS = {
  miners: text,
  fleet: text,
  seed: text,
  rounds: text,
  calls: text,
  connections: text,
  seconds: text,
  rate: text,
  lease: text,
  finished: text,
  rows: text,
  json: flag,
  help: flag,
} as const;

/** @throws UsageError */
export function readRequest(args: readonly string[]): Request {
  const { values, positionals } = parse(args);
  if (values.help) return { help: true };
  const [word, ...more] = positionals;
  const name = BENCHMARKS.find((known) => known === word);
  if (name === undefined || more.length > 0) {
    throw new UsageError(`name one of ${BENCHMARKS.join(', ')}`);
  }
  const { fleet = 'mixed' } = values;
  if (fleet !== 'mixed' && fleet !== 'equal') throw new UsageError('--fleet must be mixed or equal');
  const whole = (option: keyof typeof RANGES) => {
    const { fallback, ...range } = RANGES[option];
    return wholeOption(option, values[option] ?? String(fallback(name)), range);
  };
  const options = {
    miners: whole('miners'),
    fleet,
    seed: whole('seed'),
    rounds: whole('rounds'),
    calls: whole('calls'),
    connections: whole('connections'),
    seconds: numberOption('seconds', values.seconds ?? String(RANGES.seconds.fallback(name)), RANGES.seconds),
    rate: whole('rate'),
    lease: whole('lease'),
    finished: whole('finished'),
    rows: whole('rows'),
  } as const;
  if (!WITHOUT_CONNECTIONS.has(name) && options.connections > options.miners) {
    throw new UsageError('--connections must not be more than --miners: each is a miner');
  }
  return { help: false, name, json: values.json, options };
}

interface Range {
  readonly min: number;
  readonly max: number;
  readonly fallback: (name: BenchmarkName) => number;
}

const MINERS: Record<BenchmarkName, number> = {
  match: 10_000,
  scale: 30_000,
  sockets: 20_000,
  heartbeat: 1000,
  http: 1000,
  coordinator: 1000,
  sla: 100_000,
};
const ROUNDS: Record<BenchmarkName, number> = {
  match: 21,
  scale: 7,
  sockets: 1,
  heartbeat: 3,
  http: 3,
  coordinator: 1,
  sla: 3,
};

const SECONDS: Partial<Record<BenchmarkName, number>> = { sockets: 60, coordinator: 10, sla: 10 };

/** Fewer miners than a hundred have no rare hardware; more than five million would not fit into the memory of most machines. */
const RANGES = {
  miners: { min: 100, max: 5_000_000, fallback: (name) => MINERS[name] },
  seed: { min: 0, max: 2 ** 31 - 1, fallback: () => 1 },
  rounds: { min: 1, max: 1000, fallback: (name) => ROUNDS[name] },
  calls: { min: 1, max: 10_000, fallback: (name) => (name === 'sla' ? 1000 : 20) },
  connections: { min: 1, max: 10_000, fallback: () => 32 },
  seconds: { min: 0.1, max: 600, fallback: (name) => SECONDS[name] ?? 3 },
  rate: { min: 1, max: 10_000, fallback: (name) => (name === 'sla' || name === 'sockets' ? 50 : 200) },
  finished: { min: 0, max: 10_000_000, fallback: () => 0 },
  lease: { min: 3, max: 86_400, fallback: () => 60 },
  rows: { min: 0, max: 100_000_000, fallback: () => 10_000_000 },
} satisfies Record<string, Range>;

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  } catch (error) {
    // parseArgs adds a second sentence of advice on how to pass dashes.
    throw new UsageError((error as Error).message.split('. ')[0] as string);
  }
}
