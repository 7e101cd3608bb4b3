import { PortTakenError } from '../../src/embedded/ports.ts';
import type { Program } from '../../src/embedded/supervise.ts';
import { waitFor } from '../../test/support/wait-for.ts';

const START_TIMEOUT_MS = 30_000;
const PROBE_TIMEOUT_MS = 1000;

/**
 * Waits until a service in a process of its own takes requests.
 * @param name of the service, for errors
 * @throws PortTakenError, or Error with the output, when it ends by itself
 */
export async function whenStarted(program: Program, url: string, name: string): Promise<void> {
  const isReady = async () =>
    (await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) })).ok;
  const ready = waitFor(isReady, { timeoutMs: START_TIMEOUT_MS, what: `the ${name} is ready` });
  await Promise.race([ready, failedStart(program, name)]);
}

async function failedStart(program: Program, name: string): Promise<never> {
  await program.exited;
  if (/EADDRINUSE/.test(program.output())) throw new PortTakenError();
  throw new Error(`the ${name} ended right after its start:\n${program.output()}`);
}
