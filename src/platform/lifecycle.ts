import { realpathSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ConfigError } from './config.ts';
import type { Logger } from './logger.ts';

/** A part of the process that runs until it is told to stop. */
export interface Service {
  /** Stops taking work, finishes what is in flight, lets go of everything. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Runs a service as the main program: starts it, stops it on SIGTERM or SIGINT (also one that comes during the start), then exits with 0. A start that fails
 * prints one clear line and exits with 1; so does a stop that outlasts `timeoutSec`, or a second signal. An error nobody caught stops the service
 * and exits with 1.
 */
export async function runMain(start: () => Promise<Service>, log: Logger, timeoutSec: number): Promise<void> {
  let stopping = false;
  const stop = async (why: string, exitCode: number) => {
    if (stopping) exitWith(`${why} while stopping`);
    stopping = true;
    log.info({ why }, 'stopping');
    const timedOut = sleep(timeoutSec * 1000, 'timeout', { ref: false });
    const stopped = starting.then((service) => service.stop());
    const outcome = await Promise.race([stopped, timedOut]).catch((error: unknown) => {
      log.error({ err: error }, 'stop failed');
      return 'failed';
    });
    if (outcome === 'timeout') log.error({ timeout_sec: timeoutSec }, 'did not stop in time');
    process.exit(outcome === undefined ? exitCode : 1);
  };

  process.on('SIGTERM', () => void stop('SIGTERM', 0));
  process.on('SIGINT', () => void stop('SIGINT', 0));
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'uncaught error');
    void stop('uncaught error', 1);
  });
  const starting = start();
  await starting.catch((error: unknown) => exitWith(startFailure(error)));
}

/** Whether a module is the program that was started, not a part of another one. */
export function isMainModule(moduleUrl: string): boolean {
  const program = process.argv[1];
  return program !== undefined && realpathSync(program) === realpathSync(fileURLToPath(moduleUrl));
}

/** One clear line (or one per bad setting) for a start that failed. */
export function startFailure(error: unknown): string {
  if (error instanceof ConfigError) return error.message;
  const { code, port, address } = error as NodeJS.ErrnoException & { port?: number; address?: string };
  if (code === 'EADDRINUSE') return `port ${port} on ${address} is taken by another program`;
  if (code === 'EADDRNOTAVAIL') return `${address} is not an address of this machine`;
  if (code === 'EACCES') return `not allowed to listen on port ${port}`;
  return error instanceof Error ? error.message : String(error);
}

function exitWith(line: string): never {
  process.stderr.write(`${line}\n`);
  process.exit(1);
}
