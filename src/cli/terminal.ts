import { setMaxListeners } from 'node:events';
import type { Terminal } from './command.ts';

/** A Ctrl-C arrives twice under npm: from the terminal, and again from npm. */
const SAME_REQUEST_MS = 1_000;

/** Calls at the same time, each of which listens for the stop signal while it waits. */
const MAX_LISTENERS = 64;

/** The terminal of this process. */
export function processTerminal(): Terminal {
  let stopping: AbortController | undefined;
  // A reader that has seen enough (`| head`) is no error.
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit();
      throw error;
    });
  return {
    env: process.env,
    out: (line) => void process.stdout.write(`${line}\n`),
    note: (line) => void process.stderr.write(`${line}\n`),
    stopSignal() {
      stopping ??= abortOnSignals();
      return stopping.signal;
    },
  };
}

/** The first signal asks for an orderly end; a later one ends the process at once. */
function abortOnSignals(): AbortController {
  const controller = new AbortController();
  setMaxListeners(MAX_LISTENERS, controller.signal);
  let askedMs: number | undefined;
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      if (askedMs !== undefined && performance.now() - askedMs > SAME_REQUEST_MS) process.exit(1);
      askedMs ??= performance.now();
      controller.abort();
    });
  }
  return controller;
}
