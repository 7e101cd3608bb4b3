import os from 'node:os';
import { join, resolve } from 'node:path';
import { UsageError } from '../../src/cli/errors.ts';
import { startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../../test/support/entry.ts';
import { BENCHMARKS, type BenchmarkName, readRequest } from '../support/options.ts';
import { round } from '../support/statistics.ts';
import { type Undo, undoAll } from '../support/undo.ts';
import { lookAtMachine, type Machine } from './machine.ts';
import { type BenchmarkOf, type Result, writeResult } from './results.ts';

/** How long a benchmark may take to give back its stores. */
const STOP_MS = 30_000;

/** Options of the runs that are kept, where they are not the default ones; what the command line says counts more. */
const KEPT_OPTIONS: Partial<Record<BenchmarkName, readonly [option: string, value: string]>> = {
  match: ['--miners', '100000'],
  heartbeat: ['--miners', '10000'],
  http: ['--miners', '10000'],
  scale: ['--miners', '1000000'],
  coordinator: ['--finished', '1000000'],
};

interface Plan {
  readonly names: readonly BenchmarkName[];
  /** Options for each of them. */
  readonly extra: readonly string[];
  readonly folder: string;
}

/**
 * Runs benchmarks one after the other, each in a process of its own, and writes down what each found as soon as it has. One that does not come
 * to an end leaves its last result as it was, and the others go on.
 * @param args `[name...] [--folder <folder>] [options of the benchmarks]`; without names all of them
 * @param isStopping whether a signal came: then no other is begun
 * @returns whether all came to an end and found nothing wrong
 * @throws UsageError
 */
export async function measureAll(
  args: readonly string[],
  undo: Undo,
  progress: (line: string) => void,
  benchmarkOf: BenchmarkOf,
  isStopping: () => boolean,
): Promise<boolean> {
  const { names, extra, folder } = readPlan(args);
  const stores: Undo = [];
  undo.push(() => undoAll(stores));
  const machine = await lookAtMachine(stores);
  await undoAll(stores);
  const failed: BenchmarkName[] = [];
  for (const [at, name] of names.entries()) {
    if (isStopping()) return false;
    progress(`${name} (${at + 1} of ${names.length})`);
    try {
      const result = await measureOne(name, optionsOf(name, extra), machine, undo, progress);
      await writeResult(folder, result, benchmarkOf);
      if ((await benchmarkOf(name)).failed(result.report)) failed.push(name);
    } catch (error) {
      progress(`${name}: ${(error as Error).message}`);
      failed.push(name);
    }
  }
  if (failed.length > 0) progress(`again: npm run bench -- results ${failed.join(' ')}`);
  return failed.length === 0;
}

function readPlan(args: readonly string[]): Plan {
  const rest = [...args];
  const at = rest.indexOf('--folder');
  const [, folder] = at < 0 ? [] : rest.splice(at, 2);
  if (at >= 0 && folder === undefined) throw new UsageError('--folder needs a value');
  const firstOption = rest.findIndex((word) => word.startsWith('-'));
  const words = firstOption < 0 ? rest : rest.slice(0, firstOption);
  const unknown = words.find((word) => !BENCHMARKS.some((name) => name === word));
  if (unknown !== undefined) throw new UsageError(`there is no benchmark "${unknown}"`);
  const names = words.length > 0 ? (words as BenchmarkName[]) : BENCHMARKS;
  const extra = rest.slice(words.length);
  for (const name of names) readRequest([name, ...optionsOf(name, extra)]);
  return { names, extra, folder: folder === undefined ? join(packageRoot, 'bench') : resolve(folder) };
}

function optionsOf(name: BenchmarkName, extra: readonly string[]): string[] {
  const [option, value] = KEPT_OPTIONS[name] ?? [];
  const isGiven = extra.some((word) => word === option || word.startsWith(`${option}=`));
  return option === undefined || value === undefined || isGiven ? [...extra] : [option, value, ...extra];
}

/** @throws Error when it ends without a report */
async function measureOne(
  bench: BenchmarkName,
  options: readonly string[],
  machine: Machine,
  undo: Undo,
  progress: (line: string) => void,
): Promise<Result> {
  const load_at_start = round(os.loadavg()[0] ?? 0, 2);
  const program = await startProgram(
    process.execPath,
    [...entryArguments('bench/run.ts'), bench, ...options, '--json'],
    { cwd: packageRoot, env: process.env, onOutput: (text) => sayLines(text, progress) },
  );
  undo.push(() => program.stop(STOP_MS));
  const { code, signal } = await program.exited;
  const json = program.output().match(/^\{.*\}$/m)?.[0];
  if (json === undefined) throw new Error(`no report, ended with ${code ?? signal}`);
  const command = ['npm run bench --', bench, ...options].join(' ');
  const report = JSON.parse(json) as object;
  return { bench, command, date: new Date().toISOString(), machine, load_at_start, report };
}

/** What a run says on the way; its report is for the files. */
function sayLines(text: string, progress: (line: string) => void): void {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  for (const line of lines) progress(`  ${line}`);
}
