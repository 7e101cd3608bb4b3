import type { Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import type { Queues } from '../../platform/queues.ts';
import { pathParams, query } from '../../platform/validation.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { slaCall, withCursor } from './calls.ts';
import { capacityRoutes } from './capacity-routes.ts';
import { collectNow } from './collect-now.ts';
import { isKnownMiner, listMetrics, listViolations, slaStatus } from './queries.ts';
import {
  CollectionAnswer,
  CollectionPending,
  MetricsAnswer,
  MetricsQuery,
  MinerParams,
  StatusAnswer,
  ViolationsAnswer,
  ViolationsQuery,
} from './schema.ts';

/** The same calls stand under both. */
const PREFIXES = ['/sla', '/v1/sla'] as const;

/** What is measured of the miners and the pool, and which promises are not kept. */
export function slaRoutes(
  app: Hono<AppEnv>,
  deps: HubDeps,
  guards: Guards,
  queues: () => Promise<Queues>,
): void {
  for (const prefix of PREFIXES) {
    metricRoutes(app, deps, guards, prefix);
    violationRoutes(app, deps, guards, prefix);
    collectRoute(app, guards, queues, prefix);
    capacityRoutes(app, deps, guards, prefix);
  }
}

function metricRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards, prefix: string): void {
  app.get(
    `${prefix}/metrics/:id`,
    operation({
      ...slaCall,
      summary: 'Service levels of a miner, newest first; X-Next-Cursor leads to the next page',
      answers: { 200: MetricsAnswer },
      errors: ['invalid', 'not_found'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    pathParams(MinerParams),
    query(MetricsQuery),
    async (c) => {
      const { id } = c.req.valid('param');
      const filter = metricsFilter(c.req.valid('query'));
      const page = await listMetrics(deps.db, deps.config, { ...filter, minerId: id });
      if (page.items.length === 0 && !(await deps.db.run((orm) => isKnownMiner(orm, id)))) {
        throw new AppError('not_found', 'no such miner');
      }
      return c.json(withCursor(c, page));
    },
  );

  app.get(
    `${prefix}/metrics`,
    operation({
      ...slaCall,
      summary:
        'Service levels of all miners and of the pool, newest first; X-Next-Cursor leads to the next page',
      answers: { 200: MetricsAnswer },
      errors: ['invalid'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    query(MetricsQuery),
    async (c) => {
      const filter = metricsFilter(c.req.valid('query'));
      return c.json(withCursor(c, await listMetrics(deps.db, deps.config, filter)));
    },
  );
}

function violationRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards, prefix: string): void {
  app.get(
    `${prefix}/violations`,
    operation({
      ...slaCall,
      summary: 'Violations, newest first; X-Next-Cursor leads to the next page',
      answers: { 200: ViolationsAnswer },
      errors: ['invalid'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    query(ViolationsQuery),
    async (c) => {
      const { miner_id, resolved, limit: pageSize, cursor } = c.req.valid('query');
      const filter = { minerId: miner_id, resolved, limit: pageSize, cursor };
      return c.json(withCursor(c, await deps.db.run((orm) => listViolations(orm, filter))));
    },
  );

  app.get(
    `${prefix}/status`,
    operation({ ...slaCall, summary: 'How the pool keeps its promises now', answers: { 200: StatusAnswer } }),
    permit('coordinator', 'admin'),
    limit('default'),
    async (c) => c.json(await slaStatus(deps.db, deps.config)),
  );
}

function collectRoute(
  app: Hono<AppEnv>,
  { permit, limit }: Guards,
  queues: () => Promise<Queues>,
  prefix: string,
): void {
  app.post(
    `${prefix}/metrics/collect`,
    operation({
      ...slaCall,
      summary:
        'Measures now, through the queue, and waits up to 10 s for the counts; not at all without a worker',
      answers: { 200: CollectionAnswer, 202: CollectionPending },
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    async (c) => {
      const answer = await collectNow((await queues()).sla);
      if (answer.status === 'done') return c.json(answer.result);
      return c.json({ status: 'pending', task_id: answer.taskId, hint: answer.hint }, 202);
    },
  );
}

function metricsFilter({
  hours,
  metric_type,
  limit,
  cursor,
}: {
  hours: number;
  metric_type?: Parameters<typeof listMetrics>[2]['metricType'];
  limit: number;
  cursor?: string | undefined;
}) {
  return { hours, metricType: metric_type, limit, cursor };
}
