import type { Hono } from 'hono';
import type * as v from 'valibot';
import type { AppEnv } from '../platform/app-env.ts';
import type { Metrics } from '../platform/metrics.ts';
import { operation } from '../platform/openapi.ts';
import { VERSION } from '../platform/version.ts';
import type { HubDeps, HubState } from './deps.ts';
import { createHealthCheck, type Health } from './health.ts';
import { HealthAnswer, ProbeAnswer } from './schema.ts';

/** Health, liveness, readiness and metrics. Open to all, for watchers hold no secrets; bind to a private address. */
export function healthRoutes(app: Hono<AppEnv>, deps: HubDeps, state: HubState): void {
  const check = createHealthCheck(deps);
  const describe = operation({
    summary: 'Health of the hub: 200 while matching works, 503 when not',
    tag: 'Observing',
    auth: [],
    answers: { 200: HealthAnswer, 503: HealthAnswer },
  });
  for (const path of ['/v1/health', '/health']) {
    app.get(path, describe, async (c) => {
      const health = await check();
      return c.json(healthAnswer(health), health.status === 'down' ? 503 : 200);
    });
  }

  app.get(
    '/livez',
    operation({ summary: 'The process runs', tag: 'Observing', auth: [], answers: { 200: ProbeAnswer } }),
    (c) => c.json({ status: 'ok' }),
  );

  app.get(
    '/readyz',
    operation({
      summary: 'May be sent requests: 503 while draining or without Redis',
      tag: 'Observing',
      auth: [],
      answers: { 200: ProbeAnswer, 503: ProbeAnswer },
    }),
    async (c) => {
      if (state.draining) return c.json({ status: 'draining' }, 503);
      const { status } = await check();
      return status === 'down' ? c.json({ status }, 503) : c.json({ status: 'ok' });
    },
  );

  const describeMetrics = operation({
    summary: 'Metrics in the text format of Prometheus',
    tag: 'Observing',
    auth: [],
    answers: { 200: 'text' },
  });
  for (const path of ['/v1/metrics', '/metrics']) {
    app.get(path, describeMetrics, async (c) => {
      setFleetMetrics(deps.metrics, (await check()).fleet);
      const { registry } = deps.metrics;
      return c.body(await registry.metrics(), 200, { 'Content-Type': registry.contentType });
    });
  }
}

function healthAnswer({ status, fleet, redis, postgres }: Health): v.InferOutput<typeof HealthAnswer> {
  const online = fleet?.online ?? null;
  return {
    status,
    online_miners: online,
    miners_online: online,
    avg_latency_ms: fleet?.avgLatencyMs ?? null,
    redis,
    postgres,
    version: VERSION,
    uptime_sec: Math.round(process.uptime()),
  };
}

/** Takes the counts that live in Redis, so that every replica shows the same; unknown ones are left out. */
function setFleetMetrics(metrics: Metrics, fleet: Health['fleet']): void {
  const gauges = [
    [metrics.minersOnline, fleet?.online],
    [metrics.reservations, fleet?.reservations],
    [metrics.journalLag, fleet?.journalEntries],
  ] as const;
  for (const [gauge, value] of gauges) {
    if (value === undefined) gauge.remove();
    else gauge.set(value);
  }
}
