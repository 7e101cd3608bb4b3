import { isConnectionError } from '../platform/errors.ts';
import { sharedProbe } from '../platform/shared-probe.ts';
import type { HubDeps } from './deps.ts';
import type { FleetStats } from './miners/types.ts';

/** What the hub knows of itself at one moment. Null counts are unknown. */
export interface Health {
  readonly status: 'ok' | 'degraded' | 'down';
  readonly fleet: FleetStats | null;
  readonly redis: 'ok' | 'down';
  readonly postgres: 'ok' | 'down';
}

const POSTGRES_BUDGET_MS = 700;

/**
 * Makes the check of both stores: `down` without Redis, because then nothing can be matched; `degraded` without Postgres. It answers
 * within the command timeout of Redis, and never throws for a store that is away.
 */
export function createHealthCheck(deps: Pick<HubDeps, 'miners' | 'db'>): () => Promise<Health> {
  return sharedProbe(() => probe(deps));
}

async function probe(deps: Pick<HubDeps, 'miners' | 'db'>): Promise<Health> {
  const [fleet, postgresAnswers] = await Promise.all([fleetOrNull(deps), deps.db.ping(POSTGRES_BUDGET_MS)]);
  const redis = fleet === null ? 'down' : 'ok';
  const postgres = postgresAnswers ? 'ok' : 'down';
  return { status: fleet === null ? 'down' : postgresAnswers ? 'ok' : 'degraded', fleet, redis, postgres };
}

async function fleetOrNull({ miners }: Pick<HubDeps, 'miners'>): Promise<FleetStats | null> {
  try {
    return await miners.stats();
  } catch (error) {
    if (isConnectionError(error)) return null;
    throw error;
  }
}
