import { setTimeout as sleep } from 'node:timers/promises';
import { type HubDeps, openDeps } from '../../src/hub/deps.ts';
import { collect } from '../../src/hub/sla/collector.ts';
import { listMetrics, listViolations } from '../../src/hub/sla/queries.ts';
import { recordFeedback } from '../../src/hub/trust/feedback.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { whenReady } from '../../src/platform/redis.ts';
import { beat, registerMiner, uniqueId } from '../durable/fleet.ts';
import type { Harness } from '../support/harness.ts';

/** A pool on a clock that only the test moves. */
export interface World {
  readonly deps: HubDeps;
  readonly nowMs: () => number;
  /** Moves the clock by a second at a time up to `sec`, with a hub that is there; `each` is called every 20 s. */
  run(sec: number, each: (atSec: number) => Promise<void>): Promise<void>;
  /** Moves the clock while no hub is there. */
  away(sec: number): void;
  register(minerId?: string): Promise<string>;
  beat(minerId: string): Promise<void>;
  job(minerId: string, outcome: 'completed' | 'failed', latencyMs?: number): Promise<void>;
  /** @param dueMs when a scheduled run was to begin; now without it */
  collect(onDemand?: boolean, dueMs?: number): ReturnType<typeof collect>;
  /** Open violations as `miner type`. */
  open(): Promise<string[]>;
  /** The newest value of each metric of a miner. */
  levels(minerId: string): Promise<Record<string, number>>;
}

const STEP_SEC = 20;

let worlds = 0;

export async function openWorld(h: Harness, settings: Record<string, string> = {}): Promise<World> {
  worlds += 1;
  const config = await h.config({
    MINER_ENROLLMENT: 'open',
    REDIS_PREFIX: `${h.prefix}-w${worlds}`,
    SLA_WINDOW_SEC: '600',
    ...settings,
  });
  let nowMs = Date.now();
  const deps = openDeps(config, createLogger('silent', 'test'), {
    processMetrics: false,
    clock: () => nowMs,
  });
  h.cleanup(() => deps.close());
  await whenReady(deps.redis, 5000);
  return {
    deps,
    nowMs: () => nowMs,
    async run(sec, each) {
      for (let at = STEP_SEC; at <= sec; at += STEP_SEC) {
        nowMs += STEP_SEC * 1000;
        await deps.miners.alive();
        await deps.miners.reap(0, 1000);
        await each(at);
      }
    },
    away(sec) {
      nowMs += sec * 1000;
    },
    register: (minerId = uniqueId('miner')) => registerMiner(deps, minerId),
    beat: (minerId) => beat(deps, minerId),
    async job(minerId, outcome, latencyMs) {
      const report = { jobId: uniqueId('job'), minerId, outcome, latencyMs: latencyMs ?? null };
      for (;;) {
        const { status } = await recordFeedback(deps, {
          ...report,
          failCode: null,
          tokensSpent: null,
          reservationId: null,
        });
        if (status === 'ok') return;
        await sleep(10);
      }
    },
    collect: (onDemand = true, dueMs = nowMs) => collect(deps, { onDemand, dueMs }),
    async open() {
      const filter = { minerId: undefined, resolved: false, limit: 1000, cursor: undefined };
      const { items } = await deps.db.run((orm) => listViolations(orm, filter));
      return items.map((item) => `${item.miner_id ?? 'pool'} ${item.violation_type}`).sort();
    },
    async levels(minerId) {
      const filter = { minerId, hours: 24, metricType: undefined, limit: 1, cursor: undefined };
      const { items } = await listMetrics(deps.db, config, filter);
      return Object.fromEntries(items.map((item) => [item.metric_type, item.metric_value]));
    },
  };
}
