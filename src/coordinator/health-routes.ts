import type { Hono } from 'hono';
import * as v from 'valibot';
import type { AppEnv } from '../platform/app-env.ts';
import { operation } from '../platform/openapi.ts';
import { sharedProbe } from '../platform/shared-probe.ts';
import { VERSION } from '../platform/version.ts';
import { readLive } from './admin/store.ts';
import type { CoordinatorDeps, CoordinatorState } from './deps.ts';
import { countOpen } from './settlement/store.ts';

const POSTGRES_BUDGET_MS = 700;

const HealthAnswer = v.pipe(
  v.object({
    status: v.picklist(['ok', 'down']),
    postgres: v.picklist(['ok', 'down']),
    polls_held: v.number(),
    version: v.string(),
    uptime_sec: v.number(),
  }),
  v.metadata({ ref: 'CoordinatorHealth' }),
);

const ProbeAnswer = v.pipe(
  v.object({ status: v.picklist(['ok', 'draining', 'down']) }),
  v.metadata({ ref: 'ProbeAnswer' }),
);

const observing = { tag: 'Observing', auth: [] } as const;

/** Health, liveness, readiness and metrics. Open to all, for watchers hold no secrets; bind to a private address. */
export function healthRoutes(app: Hono<AppEnv>, deps: CoordinatorDeps, state: CoordinatorState): void {
  const answersPostgres = sharedProbe(() => deps.db.ping(POSTGRES_BUDGET_MS));
  const refresh = sharedProbe(() => refreshGauges(deps));
  const describe = operation({
    ...observing,
    summary: 'Health of the coordinator: 200 while Postgres answers, 503 when not',
    answers: { 200: HealthAnswer, 503: HealthAnswer },
  });
  for (const path of ['/v1/health', '/health']) {
    app.get(path, describe, async (c) => {
      const postgres = (await answersPostgres()) ? 'ok' : 'down';
      const answer = {
        status: postgres,
        postgres,
        polls_held: deps.dispatcher.held,
        version: VERSION,
        uptime_sec: Math.round(process.uptime()),
      };
      return c.json(answer, postgres === 'ok' ? 200 : 503);
    });
  }

  app.get(
    '/livez',
    operation({ ...observing, summary: 'The process runs', answers: { 200: ProbeAnswer } }),
    (c) => c.json({ status: 'ok' }),
  );

  app.get(
    '/readyz',
    operation({
      ...observing,
      summary: 'May be sent requests: 503 while draining, without Postgres or before it is migrated',
      answers: { 200: ProbeAnswer, 503: ProbeAnswer },
    }),
    async (c) => {
      if (state.draining) return c.json({ status: 'draining' }, 503);
      const isReady = state.migrated && (await answersPostgres());
      return isReady ? c.json({ status: 'ok' }) : c.json({ status: 'down' }, 503);
    },
  );

  const describeMetrics = operation({
    ...observing,
    summary: 'Metrics in the text format of Prometheus',
    answers: { 200: 'text' },
  });
  for (const path of ['/v1/metrics', '/metrics']) {
    app.get(path, describeMetrics, async (c) => {
      await refresh();
      const { registry } = deps.metrics;
      return c.body(await registry.metrics(), 200, { 'Content-Type': registry.contentType });
    });
  }
}

/** Takes the counts that Postgres has; unknown ones are left out. */
async function refreshGauges({ db, metrics, log }: CoordinatorDeps): Promise<void> {
  try {
    const live = await db.run(readLive, POSTGRES_BUDGET_MS);
    metrics.jobs.set({ state: 'QUEUED' }, live.queued);
    metrics.jobs.set({ state: 'RUNNING' }, live.running);
    metrics.minersOnline.set(live.online);
    metrics.hubOutbox.set(live.reports);
    const open = await db.run(countOpen, POSTGRES_BUDGET_MS);
    for (const [state, count] of Object.entries(open)) metrics.settlements.set({ state }, count);
  } catch (error) {
    log.debug({ err: error }, 'gauges without Postgres');
    metrics.jobs.reset();
    metrics.minersOnline.remove();
    metrics.hubOutbox.remove();
    metrics.settlements.reset();
  }
}
