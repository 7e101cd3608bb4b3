import { randomInt } from 'node:crypto';

/** Below the ephemeral ranges of Linux and macOS, so that no outgoing connection takes the port of a stopped store. */
const FIRST_PORT = 15_000;
const LAST_PORT = 32_000;
const ATTEMPTS = 20;

/** A start that failed because another program listens on the port. */
export class PortTakenError extends Error {
  override readonly name = 'PortTakenError';
}

/**
 * Starts a server on a free port. The server itself binds, so there is no moment in which a probed port can be lost;
 * a taken one is simply tried again with another.
 * @throws whatever `start` throws, other than PortTakenError.
 */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(randomInt(FIRST_PORT, LAST_PORT));
    } catch (error) {
      if (!(error instanceof PortTakenError) || attempt === ATTEMPTS) throw error;
    }
  }
}
