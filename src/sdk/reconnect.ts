import { setTimeout as sleep } from 'node:timers/promises';
import { type BackoffLimits, fullJitterMs } from './backoff.ts';
import { HubError } from './errors.ts';

/** One connection: what it brings, from its opening to its end. Gives true when there is nothing more to come, ever. */
export type Connection<T> = AsyncGenerator<T, boolean>;

/**
 * Yields what one connection after the other brings. Between two of them it waits with full jitter, longer after every failure in a
 * row, and at least for what Retry-After says.
 * @param connect is given what to call when the connection works: failures are counted anew from then on
 * @param signal ends the wait and, by way of `connect`, the connection; its reason is thrown then
 * @throws HubError for a refusal that would come again
 */
export async function* reconnecting<T>(
  connect: (works: () => void) => Connection<T>,
  signal: AbortSignal | undefined,
  backoff: BackoffLimits,
): AsyncGenerator<T, void> {
  let failures = 0;
  for (;;) {
    signal?.throwIfAborted();
    let askedMs = 0;
    try {
      const isOver = yield* connect(() => {
        failures = 0;
      });
      if (isOver) return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof HubError) || error.isFinal) throw error;
      askedMs = error.retryAfterMs ?? 0;
    }
    const waitMs = askedMs + fullJitterMs(failures, backoff);
    await sleep(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
    failures += 1;
  }
}
