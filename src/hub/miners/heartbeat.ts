import type * as v from 'valibot';
import type { HubDeps } from '../deps.ts';
import { type MinerClaim, sessionUnknown } from './credentials.ts';
import type { HeartbeatFrame, HeartbeatRequest } from './schema.ts';
import type { Beat, Lease, PendingCommand } from './types.ts';

/** How a heartbeat came; the label of `poolhub_heartbeats_total`. */
export type Transport = 'http' | 'ws';

/** What a miner sends, checked: the WebSocket frame, or its HTTP twin with the names of an earlier protocol. */
export type HeartbeatPayload = v.InferOutput<typeof HeartbeatFrame> & Partial<HttpExtras>;

type HttpExtras = Pick<v.InferOutput<typeof HeartbeatRequest>, 'status' | 'memory_used' | 'memory_total'>;

/** The lease fields that every answer to a miner carries: seconds to the millisecond, the time in UTC. */
export interface LeaseFields {
  readonly lease_ttl_sec: number;
  readonly next_heartbeat_sec: number;
  readonly lease_expires_at: string;
}

/**
 * Takes one heartbeat, from HTTP or WebSocket: acknowledged commands, readings and the lease, in one script.
 * @returns the lease as granted, and the commands that wait, the oldest first (16 at most)
 * @throws AppError `session_unknown` when the registry does not know the claim; else what Redis throws
 */
export async function heartbeat(
  deps: Pick<HubDeps, 'miners' | 'metrics'>,
  claim: MinerClaim,
  payload: HeartbeatPayload,
  transport: Transport,
): Promise<{ lease: Lease; commands: PendingCommand[] }> {
  const { minerId, credential } = claim;
  const result = await deps.miners.heartbeat(minerId, credential, beatOf(payload), payload.ack);
  if (result.status === 'session_unknown') throw sessionUnknown();
  deps.metrics.heartbeats.inc({ transport });
  return { lease: result, commands: result.commands };
}

/** What a lease looks like to the miner. */
export function leaseFields(lease: Lease): LeaseFields {
  return {
    lease_ttl_sec: seconds(lease.leaseUntilMs - lease.nowMs),
    next_heartbeat_sec: seconds(lease.nextHeartbeatMs),
    lease_expires_at: new Date(lease.leaseUntilMs).toISOString(),
  };
}

/** Readings as the registry takes them. An alias counts only where its own name is absent. */
export function beatOf(payload: HeartbeatPayload): Beat {
  const { queue_len, avg_latency_ms, temp_c, current_jobs, status, memory_used, memory_total } = payload;
  const busy = payload.busy ?? (status === undefined ? undefined : status.toLowerCase() === 'busy');
  const mem_free_gb = payload.mem_free_gb ?? freeMemory(memory_used, memory_total);
  const jobs = Array.isArray(current_jobs) ? current_jobs.length : current_jobs;
  return {
    ...(queue_len === undefined ? {} : { queue_len }),
    ...(busy === undefined ? {} : { busy }),
    ...(avg_latency_ms === undefined ? {} : { avg_latency_ms }),
    ...(temp_c === undefined ? {} : { temp_c }),
    ...(mem_free_gb === undefined ? {} : { mem_free_gb }),
    ...(jobs === undefined ? {} : { current_jobs: jobs }),
  };
}

function freeMemory(used: number | undefined, total: number | undefined): number | undefined {
  return used === undefined || total === undefined ? undefined : Math.max(0, total - used);
}

function seconds(ms: number): number {
  return Math.round(ms) / 1000;
}
