import { setTimeout as sleep } from 'node:timers/promises';
import { and, asc, eq, gt, inArray, lt, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { isUniqueViolation } from '../../platform/db-errors.ts';
import { unavailable } from '../../platform/errors.ts';
import type { PriceSettings } from '../billing/prices.ts';
import { usageOf } from '../billing/usage.ts';
import { miners } from '../miners/tables.ts';
import { feedback } from './tables.ts';
import {
  evidenceOf,
  type Outcome,
  observeLatency,
  stepTrust,
  type TrustEvidence,
  trustScore,
} from './trust.ts';

/** One report of a coordinator, as it is stored. */
export interface FeedbackRow {
  readonly jobId: string;
  readonly minerId: string;
  readonly outcome: Outcome;
  readonly latencyMs: number | null;
  readonly failCode: string | null;
  /** Decimal string. */
  readonly tokensSpent: string | null;
  readonly reservationId: string | null;
  /** When the hub took it, Unix milliseconds. */
  readonly atMs: number;
}

/** Trust of a miner after its feedback number `seq`. */
export interface TrustSnapshot {
  readonly minerId: string;
  readonly seq: number;
  readonly alpha: number;
  readonly beta: number;
  readonly score: number;
  /** Null before the first sample; the registry lets it count from the third on. */
  readonly observedLatencyMs: number | null;
  readonly observedSamples: number;
}

interface NextTrust extends TrustSnapshot {
  readonly atMs: number | null;
}

export type CommitResult =
  | { status: 'unknown_miner' }
  | { status: 'duplicate'; trust: TrustSnapshot }
  | { status: 'committed'; feedbackId: number; trust: TrustSnapshot };

/** A committed row that Redis may not know of yet, with its miner's trust as it is now. */
export interface UnappliedFeedback {
  readonly feedbackId: number;
  readonly outcome: Outcome;
  readonly reservationId: string | null;
  readonly trust: TrustSnapshot;
}

/**
 * Each attempt that fails is the success of another; this many in a row belong to no real load on one miner.
 */
const COMMIT_ATTEMPTS = 50;
const COMMIT_BACKOFF_MAX_MS = 20;

/** The index that tells that a feedback is stored already. */
const SAME_FEEDBACK = 'idx_feedback_job_miner_outcome';

export interface TrustSettings extends PriceSettings {
  readonly trust_half_life_days: number;
  readonly trust_transient_codes: readonly string[];
}

/**
 * Stores a feedback and what was used, and steps its miner's trust, in one statement that takes effect only if no other feedback
 * of the miner came in between (else it is computed anew). So the feedback of a miner has one order (`seq`),
 * whichever replica takes it. A (job, miner, outcome) that is stored already changes nothing.
 * @throws AppError `unavailable` when others kept coming in between
 */
export async function commitFeedback(
  orm: Orm,
  row: FeedbackRow,
  settings: TrustSettings,
): Promise<CommitResult> {
  const evidence = evidenceOf(row.outcome, row.failCode, settings.trust_transient_codes);
  for (let attempt = 1; attempt <= COMMIT_ATTEMPTS; attempt++) {
    const [miner] = await orm.select().from(miners).where(eq(miners.minerId, row.minerId));
    if (miner === undefined) return { status: 'unknown_miner' };
    const trust = trustAfter(miner, row, evidence, settings);
    try {
      const feedbackId = await insertFeedback(orm, row, evidence, settings, trust);
      if (feedbackId !== undefined) return { status: 'committed', feedbackId, trust };
    } catch (error) {
      if (!isUniqueViolation(error, SAME_FEEDBACK)) throw error;
      const [current] = await orm.select().from(miners).where(eq(miners.minerId, row.minerId));
      if (current === undefined) return { status: 'unknown_miner' };
      return { status: 'duplicate', trust: snapshotOf(current) };
    }
    await sleep(Math.random() * Math.min(attempt, COMMIT_BACKOFF_MAX_MS));
  }
  throw unavailable('the trust of this miner');
}

/** Notes that Redis knows of these rows. */
export async function markApplied(orm: Orm, feedbackIds: readonly number[]): Promise<void> {
  await orm
    .update(feedback)
    .set({ applied: true })
    .where(inArray(feedback.id, [...feedbackIds]));
}

/** The oldest rows stored before `before` that Redis may not know of, at most `limit`. */
export async function findUnapplied(orm: Orm, before: Date, limit: number): Promise<UnappliedFeedback[]> {
  const rows = await orm
    .select({
      id: feedback.id,
      outcome: feedback.outcome,
      reservationId: feedback.reservationId,
      miner: miners,
    })
    .from(feedback)
    .innerJoin(miners, eq(miners.minerId, feedback.minerId))
    .where(and(sql`not ${feedback.applied}`, lt(feedback.createdAt, before)))
    .orderBy(asc(feedback.id))
    .limit(limit);
  return rows.map(({ id, outcome, reservationId, miner }) => ({
    feedbackId: id,
    outcome,
    reservationId,
    trust: snapshotOf(miner),
  }));
}

/** Trust of those of these miners that have any feedback. */
export async function readTrust(orm: Orm, minerIds: readonly string[]): Promise<TrustSnapshot[]> {
  const rows = await orm
    .select()
    .from(miners)
    .where(and(inArray(miners.minerId, [...minerIds]), gt(miners.trustSeq, 0)));
  return rows.map(snapshotOf);
}

type MinerRow = typeof miners.$inferSelect;

/** Trust of a miner as it will be once `row` is stored. */
function trustAfter(
  miner: MinerRow,
  row: FeedbackRow,
  evidence: TrustEvidence,
  settings: TrustSettings,
): NextTrust {
  const before = { alpha: miner.trustAlpha, beta: miner.trustBeta, atMs: miner.trustAt?.getTime() ?? null };
  const state = stepTrust(before, evidence, row.atMs, settings.trust_half_life_days);
  const latency = { meanMs: miner.observedLatencyMs, samples: miner.observedLatencySamples };
  const counts = row.outcome === 'completed' && row.latencyMs !== null;
  const observed = counts ? observeLatency(latency, row.latencyMs) : latency;
  return {
    minerId: row.minerId,
    seq: miner.trustSeq + 1,
    alpha: state.alpha,
    beta: state.beta,
    score: trustScore(state),
    atMs: state.atMs,
    observedLatencyMs: observed.meanMs,
    observedSamples: observed.samples,
  };
}

/**
 * One statement for all tables: the row of the miner moves on from `seq - 1`, and only then are the feedback and its
 * usage stored; a feedback that is stored already breaks the unique index and undoes all.
 * @returns undefined when the miner's `seq` has moved on
 */
async function insertFeedback(
  orm: Orm,
  row: FeedbackRow,
  evidence: TrustEvidence,
  settings: TrustSettings,
  next: NextTrust,
): Promise<number | undefined> {
  const at = new Date(row.atMs).toISOString();
  const trustAt = next.atMs === null ? null : new Date(next.atMs).toISOString();
  const rows = await orm.execute<{ id: string }>(sql`
    with moved as (
      update ${miners} set
        trust_alpha = ${next.alpha}, trust_beta = ${next.beta}, trust_score = ${next.score},
        trust_at = ${trustAt}::timestamptz, trust_seq = ${next.seq},
        observed_latency_ms = ${next.observedLatencyMs}, observed_latency_samples = ${next.observedSamples}
      where miner_id = ${row.minerId} and trust_seq = ${next.seq - 1}
      returning miner_id, tenant_id, gpu_count, addr
    ), stored as (
    insert into ${feedback} (job_id, miner_id, outcome, latency_ms, fail_code, tokens_spent, reservation_id, seq,
      alpha_added, beta_added, half_life_days, created_at)
    select ${row.jobId}, miner_id, ${row.outcome}, ${row.latencyMs}::float8, ${row.failCode},
      ${row.tokensSpent}::numeric, ${row.reservationId}, ${next.seq}::int8, ${evidence.alphaAdded}::float8,
      ${evidence.betaAdded}::float8, ${settings.trust_half_life_days}::float8, ${at}::timestamptz
    from moved
    returning id
    ), used as (${usageOf(row, settings, sql`stored`, sql`moved`)})
    select id from stored`);
  return rows[0] === undefined ? undefined : Number(rows[0].id);
}

function snapshotOf(miner: MinerRow): TrustSnapshot {
  return {
    minerId: miner.minerId,
    seq: miner.trustSeq,
    alpha: miner.trustAlpha,
    beta: miner.trustBeta,
    score: miner.trustScore,
    observedLatencyMs: miner.observedLatencyMs,
    observedSamples: miner.observedLatencySamples,
  };
}
