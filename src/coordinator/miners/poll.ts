import type { Writable } from 'node:stream';
import { AppError, unavailable } from '../../platform/errors.ts';
import type { CoordinatorDeps } from '../deps.ts';
import { announceWaiting, publishChange } from '../publish.ts';
import { type ClaimedJob, putBack } from './claim.ts';

/** A miner must register before anything else, and again after another process has taken its id. */
export function mustRegister(): AppError {
  return new AppError('session_unknown', 'register first');
}

/**
 * A long poll: a job at once, or as soon as there is one within `waitMs`.
 * @param sessionDigest of the session the miner says it has; null when it says nothing
 * @param signal aborts when the miner hangs up; a job that it would have got is put back
 * @returns undefined when there was none in time
 * @throws AppError `session_unknown`, `unavailable`
 */
export async function poll(
  deps: CoordinatorDeps,
  minerId: string,
  sessionDigest: string | null,
  waitMs: number,
  signal: AbortSignal,
): Promise<ClaimedJob | undefined> {
  const { dispatcher, metrics } = deps;
  if (!dispatcher.hasRoom) throw unavailable('another poll');
  const polling = await dispatcher.enter(minerId, sessionDigest);
  if (polling === undefined) throw mustRegister();
  if (signal.aborted) return undefined;
  const found = await dispatcher.wait(polling, waitMs, signal);
  if (found === undefined) {
    // One that names no session and has registered meanwhile: its next poll is of the new session.
    if (sessionDigest === null) return undefined;
    throw mustRegister();
  }
  const { claimed } = found;
  if (claimed === undefined) return undefined;
  if (signal.aborted) {
    await giveBack(deps, claimed);
    return undefined;
  }
  if (claimed.attempts === 1) metrics.pickupMs.observe(claimed.waitedMs);
  publishChange(deps, 'assign', claimed.row);
  deps.hub?.release(claimed.otherReservationIds);
  return claimed;
}

/** Notes what became of the answer: a job whose answer went out is the miner's, one whose connection broke before is put back. */
export function watchDelivery(
  deps: CoordinatorDeps,
  claimed: ClaimedJob,
  outgoing: Writable | undefined,
): void {
  const { attempts, sessionDigest, reservationId } = claimed;
  const assignment = { jobId: claimed.row.job_id, attempts, sessionDigest, reservationId };
  if (outgoing === undefined) {
    deps.deliveries.note(assignment);
    return;
  }
  outgoing.once('close', () => {
    if (outgoing.writableFinished) deps.deliveries.note(assignment);
    else {
      giveBack(deps, claimed).catch((error: unknown) =>
        deps.log.debug({ err: error }, 'an undelivered job is left to the sweep'),
      );
    }
  });
}

async function giveBack(deps: CoordinatorDeps, claimed: ClaimedJob): Promise<void> {
  if (claimed.reservationId !== null) deps.hub?.release([claimed.reservationId]);
  const row = await deps.db.run((orm) => putBack(orm, claimed));
  if (row === undefined) return;
  publishChange(deps, 'requeue', row);
  await announceWaiting(deps, [row.job_id]);
}
