import { and, asc, eq, gt, inArray, lt, sql } from 'drizzle-orm';
import type { Orm, Transaction } from '../../platform/db.ts';
import { miners } from '../miners/tables.ts';
import { feedback } from './tables.ts';
import {
  evidenceOf,
  type ObservedLatency,
  type Outcome,
  observeLatency,
  stepTrust,
  type TrustState,
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

export interface TrustSettings {
  readonly trust_half_life_days: number;
  readonly trust_transient_codes: readonly string[];
}

/**
 * Stores a feedback and steps its miner's trust in one transaction. The lock on the miner's row puts the feedback of a miner in
 * one order (`seq`) whichever replica takes it. A (job, miner, outcome) that is stored already changes nothing.
 */
export async function commitFeedback(
  orm: Orm,
  row: FeedbackRow,
  settings: TrustSettings,
): Promise<CommitResult> {
  return await orm.transaction(async (tx) => {
    const locked = await tx.select().from(miners).where(eq(miners.minerId, row.minerId)).for('no key update');
    const miner = locked[0];
    if (miner === undefined) return { status: 'unknown_miner' };
    const evidence = evidenceOf(row.outcome, row.failCode, settings.trust_transient_codes);
    const seq = miner.trustSeq + 1;
    const inserted = await tx
      .insert(feedback)
      .values({
        ...row,
        ...evidence,
        seq,
        halfLifeDays: settings.trust_half_life_days,
        createdAt: new Date(row.atMs),
      })
      .onConflictDoNothing({ target: [feedback.jobId, feedback.minerId, feedback.outcome] })
      .returning({ id: feedback.id });
    if (inserted[0] === undefined) return { status: 'duplicate', trust: snapshotOf(miner) };
    const before = { alpha: miner.trustAlpha, beta: miner.trustBeta, atMs: miner.trustAt?.getTime() ?? null };
    const after = stepTrust(before, evidence, row.atMs, settings.trust_half_life_days);
    const trust = await saveTrust(tx, row.minerId, seq, after, observedAfter(miner, row));
    return { status: 'committed', feedbackId: inserted[0].id, trust };
  });
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

function observedAfter(miner: MinerRow, row: FeedbackRow): ObservedLatency {
  const before = { meanMs: miner.observedLatencyMs, samples: miner.observedLatencySamples };
  const counts = row.outcome === 'completed' && row.latencyMs !== null;
  return counts ? observeLatency(before, row.latencyMs) : before;
}

async function saveTrust(
  tx: Transaction,
  minerId: string,
  seq: number,
  state: TrustState,
  observed: ObservedLatency,
): Promise<TrustSnapshot> {
  const saved = await tx
    .update(miners)
    .set({
      trustAlpha: state.alpha,
      trustBeta: state.beta,
      trustScore: trustScore(state),
      trustAt: state.atMs === null ? null : new Date(state.atMs),
      trustSeq: seq,
      observedLatencyMs: observed.meanMs,
      observedLatencySamples: observed.samples,
    })
    .where(eq(miners.minerId, minerId))
    .returning();
  return snapshotOf(saved[0] as MinerRow);
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
