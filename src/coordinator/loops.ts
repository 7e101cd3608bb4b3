import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { sql } from 'drizzle-orm';
import type { Orm } from '../platform/db.ts';
import { isPostgresUnavailable } from '../platform/db-errors.ts';
import { forgetSignatures } from './auth.ts';
import { forgetInvoiceNumbers } from './billing/invoices.ts';
import type { CoordinatorDeps } from './deps.ts';
import { lapseOffers } from './hub/offers.ts';
import { drainOutbox, forgetReports } from './hub/outbox.ts';
import { createRetention } from './jobs/retention.ts';
import { expireJobs } from './jobs/store.ts';
import { jobs } from './jobs/tables.ts';
import { IS_OPEN, type JobNeeds } from './miners/fit.ts';
import { takeBackLost, takeBackSilent } from './miners/losses.ts';
import { forgetMiners, markOffline } from './miners/store.ts';
import { publishChange } from './publish.ts';
import { settleDue } from './settlement/settle.ts';

/** Rows of one statement. */
const BATCH = 200;
/** Batches in a row, after which the others have their turn. */
const MAX_BATCHES = 20;
/** Announcements in a row, after which requests have their turn. */
const ANNOUNCED_TOGETHER = 10;
/** Old rows need no hurry. */
const FORGET_EVERY_MS = 60_000;

interface Pass {
  readonly name: string;
  readonly everyMs: number;
  /** @returns whether there may be more to do at once */
  readonly work: (deps: CoordinatorDeps, signal: AbortSignal) => Promise<boolean>;
}

export interface Loops {
  /** Finishes the passes under way. */
  stop(): Promise<void>;
}

/**
 * Starts the background work. Every replica does it; rows are taken with SKIP LOCKED and changed by guarded updates, so what one does the
 * others pass over, and a replica that dies leaves nothing behind that another does not find.
 */
export function startLoops(deps: CoordinatorDeps): Loops {
  const sweepMs = deps.config.sweep_interval_ms;
  const ending = new AbortController();
  const passes: Pass[] = [
    { name: 'expire', everyMs: sweepMs, work: expire },
    { name: 'silent', everyMs: sweepMs, work: silent },
    { name: 'undelivered', everyMs: sweepMs, work: async (d) => (await takeBackLost(d, BATCH)) === BATCH },
    { name: 'lapse', everyMs: sweepMs, work: lapse },
    { name: 'wake', everyMs: sweepMs, work: createWakePass() },
    { name: 'report', everyMs: Math.min(sweepMs, 250), work: async (d) => (await drainOutbox(d)) > 0 },
    { name: 'settle', everyMs: sweepMs, work: settle },
    { name: 'forget', everyMs: FORGET_EVERY_MS, work: createForgetPass(deps) },
  ];
  const running = passes.map((pass) => run(deps, pass, ending.signal));
  return {
    async stop() {
      ending.abort();
      await Promise.all(running);
    },
  };
}

/** Repeats a pass; with jitter, so that replicas do not work in step. */
async function run(deps: CoordinatorDeps, { name, everyMs, work }: Pass, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    let isMore = true;
    try {
      for (let batch = 0; isMore && batch < MAX_BATCHES && !signal.aborted; batch += 1) {
        isMore = await work(deps, signal);
      }
    } catch (error) {
      isMore = false;
      deps.metrics.sweepErrors.inc({ pass: name });
      if (!isPostgresUnavailable(error))
        deps.log.error({ err: error, pass: name }, 'a background pass failed');
    }
    // Who is not done goes on soon: what grows with the jobs is taken away as fast as it comes.
    const waitMs = isMore ? Math.min(everyMs, deps.config.sweep_interval_ms) : everyMs;
    await pause(waitMs * (0.75 + Math.random() / 2), signal);
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false }).catch((error: Error) => {
    if (error.name !== 'AbortError') throw error;
  });
}

async function expire(deps: CoordinatorDeps): Promise<boolean> {
  const expired = await deps.db.run((orm) => expireJobs(orm, BATCH, deps.hub !== undefined));
  for (const { row, reservationIds } of expired) {
    publishChange(deps, 'expire', row);
    deps.hub?.release(reservationIds);
  }
  return expired.length === BATCH;
}

async function silent(deps: CoordinatorDeps): Promise<boolean> {
  const taken = await takeBackSilent(deps, BATCH);
  const gone = await deps.db.run((orm) => markOffline(orm, deps.config.miner_offline_sec, BATCH));
  return taken === BATCH || gone === BATCH;
}

async function lapse(deps: CoordinatorDeps): Promise<boolean> {
  return (await deps.db.run((orm) => lapseOffers(orm, BATCH, deps.hub !== undefined))) === BATCH;
}

async function settle({ db, log, node, config }: CoordinatorDeps, signal: AbortSignal): Promise<boolean> {
  if (node === undefined) return false;
  const timeoutMs = config.settlement_rpc_timeout_ms;
  const { settled } = await settleDue({ db, log, node, timeoutMs }, signal);
  return settled > 0;
}

/** Deletes what nobody needs any more. */
function createForgetPass({ db, config }: CoordinatorDeps): Pass['work'] {
  const forgetJobs = createRetention({ db }, config.job_retention_days);
  return async () => {
    const signatures = await db.run((orm) => forgetSignatures(orm, BATCH));
    const reports = await db.run((orm) => forgetReports(orm, config.outbox_keep_days, BATCH));
    const jobs = await forgetJobs(BATCH);
    const miners = await db.run((orm) => forgetMiners(orm, config.offline_miner_retention_days, BATCH));
    const numbers = await db.run((orm) => forgetInvoiceNumbers(orm, BATCH));
    return [signatures, reports, jobs, miners, numbers].includes(BATCH);
  };
}

interface WaitingRow extends Record<string, unknown> {
  readonly job_id: string;
  readonly requested_at: string;
  readonly needs: JobNeeds;
}

/**
 * Wakes the polls of this replica for open jobs whose notice it has missed. Each pass looks at the next jobs of the queue, so that
 * those which fit nobody do not stand before the others.
 */
function createWakePass(): Pass['work'] {
  let after: Pick<WaitingRow, 'job_id' | 'requested_at'> | undefined;
  return async ({ db, dispatcher }) => {
    if (dispatcher.held === 0) return false;
    const rows = await db.run((orm) => openJobs(orm, after));
    after = rows.length === BATCH ? rows.at(-1) : undefined;
    for (const [n, { job_id, needs }] of rows.entries()) {
      dispatcher.announce({ kind: 'waiting', job_id, needs, offered: [] });
      // A job that fits none of many unlike polls takes more than half a millisecond.
      if (n % ANNOUNCED_TOGETHER === 0) await turn();
    }
    return false;
  };
}

async function openJobs(
  orm: Orm,
  after: Pick<WaitingRow, 'job_id' | 'requested_at'> | undefined,
): Promise<WaitingRow[]> {
  const from =
    after === undefined
      ? sql`true`
      : sql`(requested_at, job_id) > (${after.requested_at}::timestamptz, ${after.job_id})`;
  return orm.execute<WaitingRow>(sql`
    select job_id, requested_at, json_build_object('gpu', need_gpu, 'cuda', need_cuda, 'vram_mb', need_vram_mb,
      'models', need_models, 'region', need_region, 'max_price', trim_scale(need_max_price)::text) as needs
    from ${jobs} where ${IS_OPEN} and ${from}
    order by requested_at, job_id limit ${BATCH}`);
}
