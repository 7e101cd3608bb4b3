/** Brings what is owed to the chain node: one pass over the outbox. */
import { randomUUID } from 'node:crypto';
import type { Database } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import { fullJitterMs } from '../../sdk/backoff.ts';
import type { ChainNode, RpcResult } from './rpc.ts';
import { advance, type ClaimedSettlement, claimDue, giveBack, postpone, reject } from './store.ts';

export interface SettleDeps {
  readonly db: Database;
  readonly log: Logger;
  readonly node: ChainNode;
  /** How long a call to the node may take, ms. */
  readonly timeoutMs: number;
}

export interface SettleResult {
  readonly settled: number;
  readonly postponed: number;
  readonly rejected: number;
}

const BATCH = 32;
const PARALLEL = 4;

/** Calls of one settlement in one try: create and release. */
const CALLS = 2;

/** What the statements between the calls may take beside them, ms. */
const LEASE_MARGIN_MS = 30_000;

/** After this many calls in a row without an answer the pass is over: the node is away, for the rest too. */
const MAX_SILENCES = PARALLEL;

const BACKOFF = { baseMs: 2_000, capMs: 600_000 };

/**
 * Settles what is due: claims a batch, calls the node for each, notes what came of it. Any number of replicas may do so at once; what one
 * of them leaves behind in a crash is due again when its claim lapses, and the node takes a repeated call for what it is.
 * @param signal ends the pass between two settlements
 */
export async function settleDue(deps: SettleDeps, signal?: AbortSignal): Promise<SettleResult> {
  const claim = randomUUID();
  const leaseMs = Math.ceil(BATCH / PARALLEL) * CALLS * deps.timeoutMs + LEASE_MARGIN_MS;
  const waiting = await deps.db.run((orm) => claimDue(orm, claim, BATCH, leaseMs));
  const counts = { settled: 0, postponed: 0, rejected: 0 };
  let silences = 0;
  const takeTurns = async () => {
    while (silences < MAX_SILENCES && signal?.aborted !== true) {
      const settlement = waiting.shift();
      if (settlement === undefined) return;
      const outcome = await settle(deps, claim, settlement);
      silences = outcome.isNodeAway ? silences + 1 : 0;
      if (outcome.counted !== undefined) counts[outcome.counted] += 1;
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(PARALLEL, waiting.length) }, takeTurns));
  } finally {
    const left = waiting.splice(0).map(({ jobId }) => jobId);
    if (left.length > 0) await deps.db.run((orm) => giveBack(orm, left, claim));
  }
  return counts;
}

interface Outcome {
  /** Undefined when another replica took over meanwhile. */
  readonly counted: keyof SettleResult | undefined;
  readonly isNodeAway: boolean;
}

/** Walks one settlement as far as the node lets it. */
async function settle(deps: SettleDeps, claim: string, settlement: ClaimedSettlement): Promise<Outcome> {
  const { node } = deps;
  const { jobId, goal } = settlement;
  if (goal === 'refund') return finish(deps, claim, settlement, await node.refund(jobId), settlement.state);
  if (settlement.state === 'pending') {
    const created = await node.create(settlement);
    if (created.status !== 'done') return finish(deps, claim, settlement, created, 'pending');
    const isOurs = await deps.db.run((orm) => advance(orm, settlement, claim, 'escrowed'));
    if (!isOurs) return { counted: undefined, isNodeAway: false };
  }
  const result = await node.release(jobId);
  // A node that has lost the escrow is asked to create it again.
  return finish(deps, claim, settlement, result, result.status === 'unknown' ? 'pending' : 'escrowed');
}

/** @param fallback the state to go on from at the next try */
async function finish(
  { db, log }: SettleDeps,
  claim: string,
  settlement: ClaimedSettlement,
  result: RpcResult,
  fallback: 'pending' | 'escrowed',
): Promise<Outcome> {
  const { jobId, goal, attempts } = settlement;
  const isGone = result.status === 'unknown' && goal === 'refund';
  if (result.status === 'done' || isGone) {
    const state = goal === 'refund' ? 'refunded' : 'released';
    const isOurs = await db.run((orm) => advance(orm, settlement, claim, state));
    return { counted: isOurs ? 'settled' : undefined, isNodeAway: false };
  }
  if (result.status === 'refused') {
    log.error({ job_id: jobId, goal, reason: result.error }, 'the chain node refuses a settlement');
    const isOurs = await db.run((orm) => reject(orm, settlement, claim, result.error));
    return { counted: isOurs ? 'rejected' : undefined, isNodeAway: false };
  }
  const error = result.status === 'unknown' ? 'release: the node does not know this escrow' : result.error;
  const askedMs = result.status === 'later' ? (result.retryAfterMs ?? 0) : 0;
  const delayMs = Math.max(fullJitterMs(attempts - 1, BACKOFF), askedMs);
  const isOurs = await db.run((orm) => postpone(orm, settlement, claim, Math.ceil(delayMs), error, fallback));
  log.warn(
    { job_id: jobId, goal, attempts, delay_ms: Math.ceil(delayMs), reason: error },
    'settlement put off',
  );
  return {
    counted: isOurs ? 'postponed' : undefined,
    isNodeAway: result.status === 'later' && result.isNodeAway,
  };
}
