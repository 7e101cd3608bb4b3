import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ScalePoint } from '../scale/run.ts';
import type { Benchmark } from '../support/benchmark.ts';
import { BENCHMARKS, type BenchmarkName } from '../support/options.ts';
import type { Machine } from './machine.ts';
import { scalePlot } from './scale-plot.ts';

/** The last run of one benchmark, as it is kept in results/<bench>.json. */
export interface Result {
  readonly bench: BenchmarkName;
  /** How to repeat it. */
  readonly command: string;
  /** When it ended, ISO 8601. */
  readonly date: string;
  readonly machine: Machine;
  /** Load average over a minute at the start: how quiet the machine was. */
  readonly load_at_start: number;
  readonly report: object;
}

/** Finds the benchmark of a name. */
export type BenchmarkOf = (name: BenchmarkName) => Promise<Benchmark<object>>;

const INTRODUCTION = `# Benchmark results

Written by \`npm run bench -- results\`; each section is the last run of its benchmark, in figures of the machine that it names. Times depend on the machine: trust the
ratios first. What is measured and how, and what each figure means: [README.md](README.md).
`;

/** Keeps a result in a folder, replacing the last one of the same benchmark, and writes RESULTS.md and the plot anew from all that are kept. */
export async function writeResult(folder: string, result: Result, benchmarkOf: BenchmarkOf): Promise<void> {
  await mkdir(join(folder, 'results'), { recursive: true });
  await writeFile(join(folder, resultPath(result.bench)), `${JSON.stringify(result, undefined, 2)}\n`);
  const sections: string[] = [];
  for (const name of BENCHMARKS) {
    const kept = await readResult(folder, name);
    if (kept === undefined) continue;
    if (name === 'scale') await writePlot(folder, kept);
    sections.push(section(kept, await benchmarkOf(name)));
  }
  await writeFile(join(folder, 'RESULTS.md'), [INTRODUCTION, ...sections].join('\n'));
}

async function readResult(folder: string, name: BenchmarkName): Promise<Result | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, resultPath(name)), 'utf8')) as Result;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function resultPath(name: BenchmarkName): string {
  return join('results', `${name}.json`);
}

async function writePlot(folder: string, { report, machine, date }: Result): Promise<void> {
  const { points, exponent } = report as { points: ScalePoint[]; exponent: number | null };
  const caption = `${machine.cpu}, ${dayOf(date)}`;
  await writeFile(join(folder, 'results', 'scale.svg'), scalePlot(points, exponent, caption));
}

function section(result: Result, benchmark: Benchmark<object>): string {
  const { bench, command, report } = result;
  const lines = [
    `## ${bench}`,
    '',
    ...(bench === 'scale' ? ['![Server time of a match over miners](results/scale.svg)', ''] : []),
    ...(benchmark.failed(report) ? ['**This run found something wrong: see the figures.**', ''] : []),
    '```text',
    benchmark.table(report),
    '```',
    '',
    `\`${command}\`, ${takenOn(result)}. All figures: [${bench}.json](results/${bench}.json).`,
    '',
  ];
  return lines.join('\n');
}

function takenOn({ date, machine, load_at_start }: Result): string {
  const { cpu, cores, memory_gib, system, node, redis, postgres } = machine;
  const software = `${system}, Node ${node}, Redis ${redis}, Postgres ${postgres}`;
  return `${dayOf(date)}, ${cpu}, ${cores} cores, ${memory_gib} GiB, ${software}, load average ${load_at_start} before`;
}

function dayOf(date: string): string {
  return date.slice(0, 'yyyy-mm-dd'.length);
}
