import type { CoordinatorDeps } from '../deps.ts';
import type { ViewRow } from '../jobs/view.ts';
import { announceWaiting, publishChange } from '../publish.ts';
import { takeBackUndelivered } from './deliveries.ts';
import { type Loss, takeBackDropped, takeBackFrom, takeBackFromSilent } from './store.ts';

type LossDeps = Pick<CoordinatorDeps, 'db' | 'config' | 'hub' | 'notices' | 'metrics'>;

const SILENCE: Loss = {
  errorCode: 'miner_offline',
  errorMessage: 'the miners that ran the job went silent',
  failCode: 'offline',
};

const DROPPED: Loss = {
  errorCode: 'miner_dropped',
  errorMessage: 'the miners that were sent the job did not work on it',
  failCode: 'network',
};

/** Takes those running jobs back from a miner that it does not work on. */
export async function takeBackOthers(
  deps: LossDeps,
  minerId: string,
  currentJobs: readonly string[],
): Promise<void> {
  const rows = await deps.db.run((orm) =>
    takeBackDropped(orm, minerId, currentJobs, optionsOf(deps, DROPPED)),
  );
  await announce(deps, rows);
}

/** Takes its running jobs back from a miner, for others or as failed. */
export async function takeBackJobs(deps: LossDeps, minerId: string, loss: Loss): Promise<void> {
  const rows = await deps.db.run((orm) => takeBackFrom(orm, minerId, optionsOf(deps, loss)));
  await announce(deps, rows);
}

/** Takes jobs back from miners that have been silent for MINER_OFFLINE_SEC, at most `limit`. @returns how many */
export async function takeBackSilent(deps: LossDeps, limit: number): Promise<number> {
  const { db, config } = deps;
  const rows = await db.run((orm) =>
    takeBackFromSilent(orm, config.miner_offline_sec, limit, optionsOf(deps, SILENCE)),
  );
  await announce(deps, rows);
  return rows.length;
}

/** Queues jobs again that were assigned and never reached their miner, at most `limit`. @returns how many */
export async function takeBackLost(deps: LossDeps, limit: number): Promise<number> {
  const rows = await deps.db.run((orm) => takeBackUndelivered(orm, limit));
  await announce(deps, rows);
  return rows.length;
}

function optionsOf({ config, hub }: LossDeps, loss: Loss) {
  return { maxAttempts: config.job_max_attempts, reports: hub !== undefined, loss };
}

async function announce(deps: LossDeps, rows: readonly ViewRow[]): Promise<void> {
  for (const row of rows) publishChange(deps, row.state === 'QUEUED' ? 'requeue' : 'exhaust', row);
  const queued = rows.filter(({ state }) => state === 'QUEUED').map(({ job_id }) => job_id);
  if (queued.length > 0) await announceWaiting(deps, queued);
}
