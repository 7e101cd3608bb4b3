import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { stopOnSignals } from '../src/bin/signals.ts';
import { UsageError } from '../src/cli/errors.ts';
import { SetupError } from '../src/embedded/setup-error.ts';
import type { Benchmark } from './support/benchmark.ts';
import { type BenchmarkName, type MeasureRequest, readRequest, USAGE } from './support/options.ts';
import { type Undo, undoAll } from './support/undo.ts';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
/** What a shell adds to the number of the signal that ended a program. */
const EXIT_SIGNAL = 128;

/** A measurement whose server is gone ends soon after. */
const STOP_BUDGET_MS = 5000;

/** Everything that has been started or created, to be taken back in the opposite order. */
const undo: Undo = [];
let stopping = false;

/** @returns the exit code */
async function main(args: readonly string[]): Promise<number> {
  const [word, ...rest] = args;
  const request = word === 'results' ? undefined : readRequest(args);
  if (request?.help) {
    console.log(USAGE);
    return 0;
  }
  const measured = request === undefined ? measureResults(rest) : measureOne(request);
  stopOnSignals(
    () => stop(measured),
    (signal) => EXIT_SIGNAL + constants.signals[signal],
  );
  return measured;
}

/** Takes all back, also what the measurement still does until it notices. */
async function stop(measured: Promise<unknown>): Promise<void> {
  stopping = true;
  await undoAll(undo);
  const over = measured.then(
    () => {},
    () => {}, // It fails because its stores are gone.
  );
  await Promise.race([over, sleep(STOP_BUDGET_MS)]);
  await undoAll(undo);
}

/** Loaded when called: a match needs no WebSockets. */
async function benchmarkOf(name: BenchmarkName): Promise<Benchmark<object>> {
  if (name === 'match') return (await import('./match/run.ts')).matchBenchmark as Benchmark<object>;
  if (name === 'scale') return (await import('./scale/run.ts')).scaleBenchmark as Benchmark<object>;
  if (name === 'heartbeat') return (await import('./hub/run.ts')).heartbeatBenchmark as Benchmark<object>;
  if (name === 'sockets') return (await import('./sockets/run.ts')).socketsBenchmark as Benchmark<object>;
  if (name === 'coordinator') {
    return (await import('./coordinator/run.ts')).coordinatorBenchmark as Benchmark<object>;
  }
  if (name === 'sla') return (await import('./sla/run.ts')).slaBenchmark as Benchmark<object>;
  return (await import('./hub/run.ts')).httpBenchmark as Benchmark<object>;
}

/** Reports on standard output, and on the way on standard error. */
function measureOne({ name, options, json }: MeasureRequest): Promise<number> {
  return undoneAfter(async () => {
    const benchmark = await benchmarkOf(name);
    const report = await benchmark.run(options, undo, progress);
    console.log(json ? JSON.stringify(report) : benchmark.table(report));
    return !benchmark.failed(report);
  });
}

/** Writes bench/RESULTS.md. */
function measureResults(args: readonly string[]): Promise<number> {
  return undoneAfter(async () => {
    const { measureAll } = await import('./report/measure-all.ts');
    return await measureAll(args, undo, progress, benchmarkOf, () => stopping);
  });
}

function progress(line: string): void {
  console.error(line);
}

/** @param work says whether all is well @returns the exit code */
async function undoneAfter(work: () => Promise<boolean>): Promise<number> {
  try {
    return (await work()) ? 0 : EXIT_FAILURE;
  } finally {
    // Two at a time would let go of stores that the other still needs.
    if (!stopping) await undoAll(undo);
  }
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (stopping) {
    // The measurement lost its stores; stopOnSignals ends the process.
  } else if (error instanceof UsageError) {
    console.error(`bench: ${error.message} (npm run bench -- --help)`);
    process.exitCode = EXIT_USAGE;
  } else {
    console.error(error instanceof SetupError ? error.message : error);
    process.exitCode = EXIT_FAILURE;
  }
}
