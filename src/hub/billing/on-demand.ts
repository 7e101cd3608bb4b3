/** Syncs and invoices that somebody waits for. */
import { setTimeout as sleep } from 'node:timers/promises';
import type * as v from 'valibot';
import { AppError, unavailable } from '../../platform/errors.ts';
import type { BillingCoordinator, CallFailure } from './coordinator.ts';
import type { SyncAnswer } from './schema.ts';
import { countSent, countUnsent, readClock, type Window } from './store.ts';
import { release, retry, type SyncDeps } from './sync.ts';

const WAIT_MS = 10_000;
const POLL_MS = 200;
const NO_WORKER =
  'no worker is running: the records go out by themselves once one does (docs/OPERATIONS.md); GET /sla/billing/usage shows how far it is';

/**
 * Lets the records of a window be sent, those that were put off too, and waits up to 10 s for the worker to send them; no longer
 * once each was tried. Calls at the same time and windows that overlap do no harm: a record is released once. Without a worker it does not wait.
 */
export async function syncNow(
  deps: SyncDeps,
  window: Window,
  hasWorker: () => Promise<boolean>,
): Promise<v.InferOutput<typeof SyncAnswer>> {
  const { db } = deps;
  const deadline = performance.now() + WAIT_MS;
  const startedAt = await db.run(readClock);
  const released = await release(deps, window, deadline);
  const retried = await retry(deps, window, deadline);
  let unsent = await db.run((orm) => countUnsent(orm, window));
  const canSend = unsent.records === 0 || (await hasWorker());
  while (canSend && unsent.pending > 0 && performance.now() < deadline) {
    await sleep(POLL_MS);
    unsent = await db.run((orm) => countUnsent(orm, window));
  }
  return {
    status: unsent.records === 0 ? 'synced' : 'pending',
    released,
    retried,
    sent: await db.run((orm) => countSent(orm, window, startedAt)),
    unsent: unsent.records,
    failing: unsent.failing,
    refused: unsent.refused,
    last_error: unsent.lastError,
    hint: canSend ? null : NO_WORKER,
  };
}

/**
 * Has the coordinator make the invoice of a tenant and period, once it has all records of that.
 * @returns its answer
 * @throws AppError `conflict` while records are on their way, and what the coordinator says no with
 */
export async function generateInvoice(
  deps: SyncDeps,
  coordinator: BillingCoordinator,
  tenantId: string,
  start: Date,
  end: Date,
  hasWorker: () => Promise<boolean>,
): Promise<Record<string, unknown>> {
  const { unsent, hint } = await syncNow(deps, { tenantId, from: start, until: end }, hasWorker);
  // An invoice is made once: what comes after it would not be on it.
  if (unsent > 0)
    throw new AppError(
      'conflict',
      `${unsent} usage records of this period have yet to reach the coordinator${hint === null ? '' : `; ${hint}`}`,
    );
  const result = await coordinator.makeInvoice(tenantId, start, end);
  if (result.status === 'done') return result.answer;
  throw errorOf(result);
}

function errorOf({ httpStatus, error, retryAfterMs }: CallFailure): AppError {
  const cause = new Error(error);
  if (httpStatus === 404)
    return new AppError('not_found', 'there is no usage to put on an invoice', { cause });
  if (httpStatus === 409) return new AppError('conflict', 'the coordinator has another invoice', { cause });
  if (httpStatus === 400 || httpStatus === 422) {
    const details = [{ path: '', message: 'is refused by the coordinator' }];
    return new AppError('invalid', 'the request is not valid', { details, cause });
  }
  if (retryAfterMs === undefined) return unavailable('the coordinator', cause);
  const retry_after_sec = Math.ceil(retryAfterMs / 1000);
  return new AppError('unavailable', 'the coordinator is busy', { retry_after_sec, cause });
}
