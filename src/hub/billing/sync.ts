/** Brings usage records to the coordinator. */
import { randomUUID } from 'node:crypto';
import type { Database } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import type { Metrics } from '../../platform/metrics.ts';
import type { BillingCoordinator, CallResult } from './coordinator.ts';
import type { PriceSettings } from './prices.ts';
import {
  type ClaimedRecord,
  claimDue,
  giveBack,
  markSent,
  pause,
  postpone,
  releaseWaiting,
  retryFailed,
  type Window,
} from './store.ts';
import { completeRecords } from './usage.ts';

export interface SyncDeps {
  readonly db: Database;
  readonly metrics: Pick<Metrics, 'usageSends'>;
  readonly log: Logger;
  readonly config: PriceSettings;
}

export interface SendResult {
  readonly sent: number;
  readonly postponed: number;
}

const RELEASE_BATCH = 5_000;
const COMPLETE_BATCH = 1_000;
const BATCH = 40;
const PARALLEL = 4;

/** What the statements between the calls may take beside them, ms. */
const LEASE_MARGIN_MS = 5_000;

/** After this many calls in a row without an answer the pass is over: the coordinator is away, for the rest too. */
const MAX_SILENCES = PARALLEL;

const BACKOFF_BASE_MS = 2_000;
const BACKOFF_CAP_MS = 600_000;

/**
 * Lets the waiting records of a window be sent. Doing so twice, or in windows that overlap, changes nothing.
 * @param deadline by `performance.now()`, after which no new batch is begun: the next call, or the scheduled one, goes on
 * @returns how many
 */
export async function release(
  { db, config }: SyncDeps,
  window: Window,
  deadline = Number.POSITIVE_INFINITY,
): Promise<number> {
  await inBatches(COMPLETE_BATCH, deadline, (limit) => db.run((orm) => completeRecords(orm, config, limit)));
  return inBatches(RELEASE_BATCH, deadline, (limit) => db.run((orm) => releaseWaiting(orm, window, limit)));
}

/**
 * Ends the wait of what was put off, whatever the reason: somebody knows that it is gone.
 * @param deadline as of `release`
 * @returns how many
 */
export async function retry(
  { db }: SyncDeps,
  window: Window,
  deadline = Number.POSITIVE_INFINITY,
): Promise<number> {
  return inBatches(RELEASE_BATCH, deadline, (limit) => db.run((orm) => retryFailed(orm, window, limit)));
}

async function inBatches(
  batch: number,
  deadline: number,
  work: (limit: number) => Promise<number>,
): Promise<number> {
  for (let total = 0; ; ) {
    const rows = await work(batch);
    total += rows;
    if (rows < batch || performance.now() >= deadline) return total;
  }
}

/**
 * Sends what is due for about `budgetMs`: claims a batch, sends each record under its own id, notes what came of it. Any
 * number of workers may do so at once. What one of them leaves behind in a crash is due again when its claim lapses;
 * the coordinator knows a repeated record by its id, and answers as it did before.
 */
export async function sendDue(
  deps: SyncDeps,
  coordinator: BillingCoordinator,
  budgetMs: number,
): Promise<SendResult> {
  const deadline = performance.now() + budgetMs;
  const total = { sent: 0, postponed: 0 };
  while (performance.now() < deadline) {
    const { claimed, isOver, sent, postponed } = await sendBatch(deps, coordinator);
    total.sent += sent;
    total.postponed += postponed;
    if (isOver || claimed < BATCH) break;
  }
  return total;
}

async function sendBatch(
  deps: SyncDeps,
  coordinator: BillingCoordinator,
): Promise<SendResult & { claimed: number; isOver: boolean }> {
  const claim = randomUUID();
  const leaseMs = Math.ceil(BATCH / PARALLEL) * coordinator.timeoutMs + LEASE_MARGIN_MS;
  const waiting = await deps.db.run((orm) => claimDue(orm, claim, BATCH, leaseMs));
  const claimed = waiting.length;
  const counts = { sent: 0, postponed: 0 };
  let silences = 0;
  let isPaused = false;
  const takeTurns = async () => {
    while (silences < MAX_SILENCES && !isPaused) {
      const record = waiting.shift();
      if (record === undefined) return;
      const result = await coordinator.sendUsage(record);
      counts[await note(deps, claim, record, result)] += 1;
      silences = result.status === 'away' ? silences + 1 : 0;
      if (result.status === 'busy') isPaused = true;
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(PARALLEL, claimed) }, takeTurns));
  } finally {
    const left = waiting.splice(0).map(({ id }) => id);
    if (left.length > 0) await deps.db.run((orm) => giveBack(orm, left, claim));
  }
  return { ...counts, claimed, isOver: isPaused || silences >= MAX_SILENCES };
}

async function note(
  { db, log, metrics }: SyncDeps,
  claim: string,
  { id, attempts }: ClaimedRecord,
  result: CallResult,
): Promise<keyof SendResult> {
  if (result.status === 'done') {
    await db.run((orm) => markSent(orm, id));
    metrics.usageSends.inc({ result: 'accepted' });
    return 'sent';
  }
  const askedMs = result.retryAfterMs ?? 0;
  const delayMs = Math.ceil(Math.max(backoffMs(attempts), askedMs));
  if (result.status === 'busy') await db.run((orm) => pause(orm, Math.max(askedMs, BACKOFF_BASE_MS)));
  const isRefused = result.status === 'refused';
  await db.run((orm) => postpone(orm, id, claim, delayMs, { error: result.error, isRefused }));
  const facts = { record_id: id, attempts, delay_ms: delayMs, reason: result.error };
  metrics.usageSends.inc({ result: isRefused ? 'refused' : 'put_off' });
  if (isRefused) log.error(facts, 'the coordinator refuses a usage record');
  else log.warn(facts, 'usage record put off');
  return 'postponed';
}

/** Exponential, with equal jitter: a refusal is never asked about again at once. */
function backoffMs(attempts: number): number {
  const ceilingMs = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** (attempts - 1));
  return ceilingMs / 2 + (Math.random() * ceilingMs) / 2;
}
