import * as v from 'valibot';
import type { Database } from '../../platform/db.ts';
import { isPostgresUnavailable } from '../../platform/db-errors.ts';
import { AppError, isConnectionError } from '../../platform/errors.ts';
import type { Logger } from '../../platform/logger.ts';
import type { Metrics } from '../../platform/metrics.ts';
import type { Scripts } from '../../platform/scripts.ts';
import { Turns } from '../../platform/turns.ts';
import type { Homes } from '../registry/homes.ts';
import {
  type CommitResult,
  commitFeedback,
  type FeedbackRow,
  findUnapplied,
  markApplied,
  type TrustSettings,
  type TrustSnapshot,
} from './store.ts';
import type { Outcome } from './trust.ts';

export interface FeedbackDeps {
  readonly db: Database;
  readonly scripts: Scripts;
  readonly homes: Homes;
  readonly config: TrustSettings;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, 'feedback'>;
}

export type FeedbackInput = Omit<FeedbackRow, 'atMs'>;

export type FeedbackResult =
  /** Committed in Postgres. */
  | { status: 'ok'; trust_score: number; duplicate: boolean }
  /** Postgres is away: the journal holds it. */
  | { status: 'journaled' }
  | { status: 'unknown_miner' };

/** A feedback as it waits in the journal. */
export const journaledFeedback = v.strictObject({
  job_id: v.string(),
  miner_id: v.string(),
  outcome: v.picklist(['accepted', 'rejected', 'failed', 'completed']),
  latency_ms: v.nullable(v.number()),
  fail_code: v.nullable(v.string()),
  tokens_spent: v.nullable(v.string()),
  reservation_id: v.nullable(v.string()),
  at_ms: v.number(),
});

/** A coordinator waits this long for Postgres; then the journal answers it. */
const COMMIT_BUDGET_MS = 800;

/** Younger rows are left to the request that committed them. */
const UNAPPLIED_AFTER_MS = 3000;

/**
 * Takes one feedback: commits it to Postgres (or, while that is away, to the journal), then tells the
 * registry. When Redis fails after the commit the answer is still `ok`, and the worker tells the registry
 * later.
 * @throws AppError `unavailable` when neither Postgres nor the journal can take it
 */
export async function recordFeedback(deps: FeedbackDeps, input: FeedbackInput): Promise<FeedbackResult> {
  const row = { ...input, atMs: Date.now() };
  const committed = await commitInTime(deps, row);
  if (committed === undefined) {
    await appendToJournal(deps, row);
    deps.metrics.feedback.inc({ outcome: row.outcome });
    await endReservation(deps, row);
    return { status: 'journaled' };
  }
  if (committed.status === 'unknown_miner') return { status: 'unknown_miner' };
  const trust_score = committed.trust.score;
  if (committed.status === 'duplicate') return { status: 'ok', trust_score, duplicate: true };
  deps.metrics.feedback.inc({ outcome: row.outcome });
  try {
    await applyCommitted(deps, [{ feedbackId: committed.feedbackId, ...row, trust: committed.trust }]);
  } catch (error) {
    // It is committed, and that is what the answer says; the row stays unapplied for the worker to finish.
    deps.log.warn({ err: error }, 'feedback is committed, the registry is told later');
  }
  return { status: 'ok', trust_score, duplicate: false };
}

/** Feedback of one miner takes its turn here, so that it only ever races with that of other replicas. */
const turns = new Turns();

/** Undefined when Postgres cannot take it in time. */
async function commitInTime(deps: FeedbackDeps, row: FeedbackRow): Promise<CommitResult | undefined> {
  try {
    return await turns.take(row.minerId, COMMIT_BUDGET_MS, (leftMs) =>
      deps.db.run((orm) => commitFeedback(orm, row, deps.config), leftMs),
    );
  } catch (error) {
    if (isPostgresUnavailable(error)) return undefined;
    throw error;
  }
}

/**
 * Commits a feedback that waited in the journal and tells the registry. Idempotent.
 * @returns false when no such miner was ever enrolled, so that nothing can be stored
 */
export async function commitJournaled(
  deps: FeedbackDeps,
  entry: v.InferOutput<typeof journaledFeedback>,
): Promise<boolean> {
  const row: FeedbackRow = {
    jobId: entry.job_id,
    minerId: entry.miner_id,
    outcome: entry.outcome,
    latencyMs: entry.latency_ms,
    failCode: entry.fail_code,
    tokensSpent: entry.tokens_spent,
    reservationId: entry.reservation_id,
    atMs: entry.at_ms,
  };
  const committed = await deps.db.run((orm) => commitFeedback(orm, row, deps.config));
  if (committed.status === 'unknown_miner') return false;
  if (committed.status === 'committed') {
    await applyCommitted(deps, [{ feedbackId: committed.feedbackId, ...row, trust: committed.trust }]);
  }
  return true;
}

/** Tells the registry of rows that a crash or an outage left unapplied, at most `limit`. Returns how many. */
export async function applyUnapplied(deps: FeedbackDeps, limit: number): Promise<number> {
  const before = new Date(Date.now() - UNAPPLIED_AFTER_MS);
  const rows = await deps.db.run((orm) => findUnapplied(orm, before, limit));
  if (rows.length > 0) await applyCommitted(deps, rows);
  return rows.length;
}

/**
 * Tells the registry what Postgres knows of a miner's trust. Harmless when the registry knows it, or
 * something newer. A miner that is not registered now is told when it registers again.
 */
export async function applyTrust(
  deps: Pick<FeedbackDeps, 'homes'>,
  trust: TrustSnapshot,
  reservation: { id: string; end: string } = { id: '', end: '' },
): Promise<'applied' | 'stale' | 'unknown_miner'> {
  const [status] = await deps.homes.run('trust/apply', trust.minerId, [
    trust.seq,
    trust.alpha,
    trust.beta,
    trust.score,
    trust.observedLatencyMs ?? '',
    trust.observedSamples,
    reservation.id,
    reservation.end,
  ]);
  if (status === 'applied' || status === 'stale' || status === 'unknown_miner') return status;
  throw new Error(`trust/apply answered ${status}`);
}

interface CommittedFeedback {
  readonly feedbackId: number;
  readonly outcome: Outcome;
  readonly reservationId: string | null;
  readonly trust: TrustSnapshot;
}

async function applyCommitted(deps: FeedbackDeps, rows: readonly CommittedFeedback[]): Promise<void> {
  await Promise.all(rows.map((row) => applyTrust(deps, row.trust, reservationEnd(row))));
  await deps.db.run((orm) =>
    markApplied(
      orm,
      rows.map((row) => row.feedbackId),
    ),
  );
}

/** `accepted` turns the held place into queued work; every other outcome frees it, and ends the job's claim to the miner. */
function reservationEnd(row: { outcome: Outcome; reservationId: string | null }): {
  id: string;
  end: string;
} {
  if (row.reservationId === null) return { id: '', end: '' };
  return { id: row.reservationId, end: row.outcome === 'accepted' ? 'confirmed' : 'released' };
}

async function appendToJournal(deps: FeedbackDeps, row: FeedbackRow): Promise<void> {
  const entry: v.InferOutput<typeof journaledFeedback> = {
    job_id: row.jobId,
    miner_id: row.minerId,
    outcome: row.outcome,
    latency_ms: row.latencyMs,
    fail_code: row.failCode,
    tokens_spent: row.tokensSpent,
    reservation_id: row.reservationId,
    at_ms: row.atMs,
  };
  const shard = () => deps.homes.homeOf(row.minerId);
  const [status] = await deps.scripts.run('trust/journal', shard, [JSON.stringify(entry)]);
  if (status === 'journal_full')
    throw new AppError('unavailable', 'the journal is full', { retry_after_sec: 5 });
  if (status !== 'ok') throw new Error(`trust/journal answered ${status}`);
}

/**
 * Ends the reservation at once, without waiting for the drain: the place must not stay blocked for an outage
 * of Postgres.
 */
async function endReservation(deps: FeedbackDeps, row: FeedbackRow): Promise<void> {
  if (row.reservationId === null) return;
  const untouched: TrustSnapshot = {
    minerId: row.minerId,
    seq: 0,
    alpha: 0,
    beta: 0,
    score: 0,
    observedLatencyMs: null,
    observedSamples: 0,
  };
  try {
    await applyTrust(deps, untouched, reservationEnd(row));
  } catch (error) {
    if (!isConnectionError(error)) throw error;
    deps.log.warn({ err: error }, 'feedback is journaled, its reservation is ended by the drain');
  }
}
