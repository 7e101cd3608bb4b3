import type { Hono } from 'hono';
import * as v from 'valibot';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError, invalidAt } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import { hasWorker, type Queues } from '../../platform/queues.ts';
import { jsonBody, query } from '../../platform/validation.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { withCursor } from '../sla/calls.ts';
import { type BillingCoordinator, createBillingCoordinator } from './coordinator.ts';
import { listFailures } from './failures.ts';
import { generateInvoice, syncNow } from './on-demand.ts';
import { recordUse, reportUsage } from './records.ts';
import {
  FailuresAnswer,
  FailuresQuery,
  InvoiceAnswer,
  InvoiceRequest,
  RecordAnswer,
  RecordRequest,
  RequestKey,
  SyncAnswer,
  SyncRequest,
  UsageQuery,
  UsageReport,
} from './schema.ts';

/** The same calls stand under both. */
const PREFIXES = ['/sla/billing', '/v1/sla/billing'] as const;

const HOUR_MS = 3_600_000;
const BODY_ERRORS = ['bad_json', 'invalid', 'too_large'] as const;

const billingCall = { tag: 'Billing', auth: ['coordinator', 'admin'] } as const;

/** What was used, by whom, and whether the coordinator bills it. */
export function billingRoutes(
  app: Hono<AppEnv>,
  deps: HubDeps,
  guards: Guards,
  queues: () => Promise<Queues>,
): void {
  const coordinator = createBillingCoordinator(deps.config);
  const needCoordinator = () => {
    if (coordinator === undefined) throw new AppError('conflict', 'COORDINATOR_BILLING_URL is not set');
    return coordinator;
  };
  for (const prefix of PREFIXES) {
    usageRoutes(app, deps, guards, prefix);
    syncRoutes(app, deps, guards, prefix, needCoordinator, async () => hasWorker((await queues()).billing));
  }
}

function usageRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards, prefix: string): void {
  app.get(
    `${prefix}/usage`,
    operation({
      ...billingCall,
      summary: 'What was used in the last hours, by one tenant or by all',
      answers: { 200: UsageReport },
      errors: ['invalid'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    query(UsageQuery),
    async (c) => {
      const { tenant_id, hours } = c.req.valid('query');
      return c.json(await reportUsage(deps.db, tenant_id, hours));
    },
  );

  app.get(
    `${prefix}/failures`,
    operation({
      ...billingCall,
      summary:
        'Records that were sent and the coordinator does not have, and why, newest use first; X-Next-Cursor leads to the next page',
      answers: { 200: FailuresAnswer },
      errors: ['invalid'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    query(FailuresQuery),
    async (c) => {
      const filter = c.req.valid('query');
      return c.json(withCursor(c, await deps.db.run((orm) => listFailures(orm, filter))));
    },
  );

  app.post(
    `${prefix}/usage/record`,
    operation({
      ...billingCall,
      summary: 'Takes a use that the hub has not seen itself, once for each Idempotency-Key',
      answers: { 200: RecordAnswer },
      errors: [...BODY_ERRORS, 'conflict'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    jsonBody(RecordRequest),
    async (c) => {
      const key = keyOf(c.req.header('Idempotency-Key'));
      return c.json(await recordUse(deps.db, deps.config, c.req.valid('json'), key));
    },
  );
}

function syncRoutes(
  app: Hono<AppEnv>,
  deps: HubDeps,
  { permit, limit }: Guards,
  prefix: string,
  needCoordinator: () => BillingCoordinator,
  canSend: () => Promise<boolean>,
): void {
  app.post(
    `${prefix}/sync`,
    operation({
      ...billingCall,
      summary: 'Has the worker send what was used, and waits up to 10 s for it; not at all without a worker',
      answers: { 200: SyncAnswer, 202: SyncAnswer },
      errors: [...BODY_ERRORS, 'conflict'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    jsonBody(SyncRequest),
    async (c) => {
      needCoordinator();
      const { miner_id, hours_back } = c.req.valid('json');
      const from = new Date(Date.now() - hours_back * HOUR_MS);
      const answer = await syncNow(deps, { minerId: miner_id, from }, canSend);
      return c.json(answer, answer.status === 'synced' ? 200 : 202);
    },
  );

  app.post(
    `${prefix}/invoice/generate`,
    operation({
      ...billingCall,
      summary: 'Has the coordinator make an invoice, once it has all records of the period',
      answers: { 200: InvoiceAnswer },
      errors: [...BODY_ERRORS, 'not_found', 'conflict'],
    }),
    permit('coordinator', 'admin'),
    limit('default'),
    jsonBody(InvoiceRequest),
    async (c) => {
      const { tenant_id, period_start, period_end } = c.req.valid('json');
      const coordinator = needCoordinator();
      return c.json(await generateInvoice(deps, coordinator, tenant_id, period_start, period_end, canSend));
    },
  );
}

function keyOf(header: string | undefined): string | undefined {
  if (header === undefined || v.is(RequestKey, header)) return header;
  throw invalidAt('Idempotency-Key', 'must have 1 to 256 characters and no blanks');
}
