import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Writable } from 'node:stream';

/**
 * The shell becomes the program (`exec`), so the child's pid is the program's own. Before that it leaves a watchdog
 * behind that reads a pipe (fd 3) held by our process: the pipe ends when we end, however we end, and the watchdog then stops
 * the program. A line on the pipe ("the program is gone already") lets the watchdog go without a kill.
 * $1 = stop signal, $2 = folder to remove afterwards or empty, the rest = the program.
 */
const WATCHED_EXEC = `
signal=$1 folder=$2; shift 2
(
  exec >/dev/null 2>&1
  read -r line && exit 0
  kill -s "$signal" $$
  n=0
  while kill -0 $$ && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
  kill -s KILL $$
  [ -z "$folder" ] || rm -rf -- "$folder"
) <&3 3<&- &
exec "$@" 3<&-
`;

/** Kept of what the program prints, in characters: enough for the reason of a failed start. */
const OUTPUT_LIMIT = 64 * 1024;

export interface ProgramExit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export interface ProgramOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  uid?: number | undefined;
  gid?: number | undefined;
  /** Sent by `stop()` and by the watchdog. */
  stopSignal?: NodeJS.Signals;
  /** Removed by the watchdog when our process ends without having stopped the program. */
  orphanedFolder?: string | undefined;
  /** Called with each piece of output as it comes. */
  onOutput?: (text: string) => void;
}

export interface Program {
  pid: number;
  /** The tail of stdout and stderr. */
  output(): string;
  /** Settles when the program has ended and all of its output has been read. */
  exited: Promise<ProgramExit>;
  running(): boolean;
  signal(name: NodeJS.Signals): void;
  /** Sends the stop signal, SIGKILL after `graceMs`, and waits for the end. */
  stop(graceMs?: number): Promise<ProgramExit>;
}

/**
 * Starts a program in a session of its own (a Ctrl-C on the terminal does not reach it) that ends with this process,
 * also when this process is killed by SIGKILL.
 * @throws Error when the shell cannot be spawned (for example when the uid may not be changed).
 */
export async function startProgram(
  file: string,
  args: string[],
  options: ProgramOptions = {},
): Promise<Program> {
  const stopSignal = options.stopSignal ?? 'SIGTERM';
  const child = spawn(
    '/bin/sh',
    ['-c', WATCHED_EXEC, 'sh', stopSignal.slice('SIG'.length), options.orphanedFolder ?? '', file, ...args],
    {
      cwd: options.cwd ?? '/',
      env: options.env ?? process.env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.gid }),
    },
  );
  const output = collectOutput(child, options.onOutput);
  await once(child, 'spawn');
  const exited = watchExit(child);
  const pid = child.pid as number;
  const running = () => child.exitCode === null && child.signalCode === null;
  return {
    pid,
    output,
    exited,
    running,
    signal: (name) => void child.kill(name),
    async stop(graceMs = 10_000) {
      if (running()) child.kill(stopSignal);
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
      try {
        return await exited;
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

function collectOutput(child: ChildProcess, onOutput?: (text: string) => void): () => string {
  let tail = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8');
    stream?.on('data', (text: string) => {
      tail = (tail + text).slice(-OUTPUT_LIMIT);
      onOutput?.(text);
    });
  }
  return () => tail;
}

async function watchExit(child: ChildProcess): Promise<ProgramExit> {
  const watched = child.stdio[3] as Writable;
  // The watchdog may be gone before it reads its line: nothing is lost then.
  watched.on('error', () => watched.destroy());
  child.once('exit', () => watched.end('ended\n'));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal };
}
