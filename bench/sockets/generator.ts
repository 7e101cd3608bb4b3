import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../../test/support/entry.ts';
import type { Undo } from '../support/undo.ts';
import type { Answer, Ask, Counts, FleetPart } from './messages.ts';

const MINERS_PER_PROCESS = 5000;
const STOP_TIMEOUT_MS = 10_000;

/** The miners of a run, in processes of their own. */
export interface Generator {
  readonly processes: number;
  connect(): Promise<Answer>;
  measure(): Promise<Answer>;
  /** What was counted since `measure`. */
  report(): Promise<Answer>;
  silence(): Promise<Answer>;
}

/** Starts processes with the first `fleet.to` miners of a fleet among them. Each ends when this process does. */
export function startGenerator(fleet: FleetPart, undo: Undo): Generator {
  const parts: { child: ChildProcess; part: FleetPart }[] = [];
  for (let from = fleet.from; from < fleet.to; from += MINERS_PER_PROCESS) {
    const [...execArgv] = entryArguments('bench/sockets/miners.ts');
    const script = execArgv.pop() as string;
    const child = fork(script, {
      cwd: packageRoot,
      execArgv,
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    undo.push(() => stop(child));
    parts.push({ child, part: { ...fleet, from, to: Math.min(fleet.to, from + MINERS_PER_PROCESS) } });
  }
  const everyone = async (question: (part: FleetPart) => Ask) =>
    sum(await Promise.all(parts.map(({ child, part }) => answerOf(child, question(part)))));
  return {
    processes: parts.length,
    connect: () => everyone((part) => ({ ask: 'connect', part })),
    measure: () => everyone(() => ({ ask: 'measure' })),
    report: () => everyone(() => ({ ask: 'report' })),
    silence: () => everyone(() => ({ ask: 'silence' })),
  };
}

/** @throws Error when the process ends first */
async function answerOf(child: ChildProcess, question: Ask): Promise<Answer> {
  const over = new AbortController();
  try {
    const ended = once(child, 'exit', { signal: over.signal }).then(([code, signal]) => {
      throw new Error(`a process with miners ended with ${code ?? signal}`);
    });
    const answered = once(child, 'message', { signal: over.signal });
    if (child.connected) child.send(question);
    return (await Promise.race([answered, ended]))[0] as Answer;
  } finally {
    over.abort();
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(timer);
}

function sum(answers: readonly Answer[]): Answer {
  return {
    refused: sumCounts(answers.map(({ refused }) => refused)),
    open: total(answers.map(({ open }) => open)),
    lost: sumCounts(answers.map(({ lost }) => lost)),
    failed: sumCounts(answers.map(({ failed }) => failed)),
    delaysUs: answers.flatMap(({ delaysUs }) => delaysUs),
    lateUs: answers.flatMap(({ lateUs }) => lateUs),
    cpuMs: total(answers.map(({ cpuMs }) => cpuMs)),
  };
}

function total(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}

function sumCounts(all: readonly Counts[]): Counts {
  const found: Record<string, number> = {};
  for (const [why, count] of all.flatMap((counts) => Object.entries(counts))) {
    found[why] = (found[why] ?? 0) + count;
  }
  return found;
}
