import type { Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { operation } from '../../platform/openapi.ts';
import { jsonBody, query } from '../../platform/validation.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { slaCall, withCursor } from './calls.ts';
import { capacityAlertPct, setCapacityAlertPct } from './capacity.ts';
import { forecastCapacity, listSnapshots, recommend } from './planning.ts';
import {
  AlertsAnswer,
  AlertsRequest,
  ForecastAnswer,
  ForecastQuery,
  RecommendationsAnswer,
  SnapshotsAnswer,
  SnapshotsQuery,
} from './schema.ts';
import { listWebhooks, replaceWebhooks } from './webhooks.ts';

/** Use of the pool: what it was, what it will be, what to do about it, and who is told. */
export function capacityRoutes(app: Hono<AppEnv>, deps: HubDeps, guards: Guards, prefix: string): void {
  const { permit, limit } = guards;
  app.get(
    `${prefix}/capacity/snapshots`,
    operation({
      ...slaCall,
      summary: 'Use of the pool at each collection, newest first; X-Next-Cursor leads to the next page',
      answers: { 200: SnapshotsAnswer },
      errors: ['invalid'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    query(SnapshotsQuery),
    async (c) => {
      const { hours, limit: pageSize, cursor } = c.req.valid('query');
      return c.json(
        withCursor(c, await deps.db.run((orm) => listSnapshots(orm, { hours, limit: pageSize, cursor }))),
      );
    },
  );

  app.get(
    `${prefix}/capacity/forecast`,
    operation({
      ...slaCall,
      summary: 'Places that will be in use, hour by hour, from the stored snapshots',
      answers: { 200: ForecastAnswer },
      errors: ['invalid'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    query(ForecastQuery),
    async (c) => {
      const hours = c.req.valid('query').hours_ahead ?? deps.config.capacity_forecast_hours;
      return c.json(await forecastCapacity(deps, hours));
    },
  );

  app.get(
    `${prefix}/capacity/recommendations`,
    operation({
      ...slaCall,
      summary: 'How many miners of which size keep use under the alert threshold, and why',
      answers: { 200: RecommendationsAnswer },
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    async (c) => c.json(await recommend(deps)),
  );

  alertRoute(app, deps, guards, prefix);
}

function alertRoute(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards, prefix: string): void {
  app.post(
    `${prefix}/capacity/alerts/configure`,
    operation({
      ...slaCall,
      summary: 'Sets when an alert of use is given, and the webhooks that all alerts go to',
      answers: { 200: AlertsAnswer },
      errors: ['bad_json', 'invalid', 'too_large'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    jsonBody(AlertsRequest),
    async (c) => {
      const { threshold_pct, webhooks } = c.req.valid('json');
      if (threshold_pct !== undefined) await deps.db.run((orm) => setCapacityAlertPct(orm, threshold_pct));
      if (webhooks !== undefined) await replaceWebhooks(deps.db, webhooks);
      return c.json({
        status: 'ok',
        threshold_pct: await capacityAlertPct(deps.db, deps.config),
        webhooks: await deps.db.run(listWebhooks),
      });
    },
  );
}
