import type { Hono } from 'hono';
import * as v from 'valibot';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError, invalidAt } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import { bodyText, jsonBody, pathParams, query } from '../../platform/validation.ts';
import type { CoordinatorDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { invoicePage, PAGE_POLICY, viewInvoice } from './invoice-view.ts';
import { findInvoice, makeInvoice } from './invoices.ts';
import { billingMetrics } from './metrics.ts';
import { putPlan, putTenant, removeTenant, viewTenant } from './plans.ts';
import {
  InvoiceAnswer,
  InvoiceParams,
  InvoiceRequest,
  MetricsAnswer,
  MetricsQuery,
  PlanAnswer,
  PlanParams,
  PlanRequest,
  RecordId,
  TenantAnswer,
  TenantParams,
  TenantRequest,
  UsageAnswer,
} from './schema.ts';
import { recordOf, recordUsage } from './usage.ts';
import { readUsage, usageBody } from './usage-body.ts';

type Deps = Pick<CoordinatorDeps, 'db' | 'config'>;
type Permit = Guards['permit'];

const TAG = 'Billing';
const HOUR_MS = 3_600_000;
const BODY_ERRORS = ['bad_json', 'invalid', 'too_large'] as const;

/** What the pool hub and operators call: an administrator key is asked for everywhere. */
export function billingRoutes(app: Hono<AppEnv>, deps: Deps, { permit }: Pick<Guards, 'permit'>): void {
  usageRoutes(app, deps, permit);
  invoiceRoutes(app, deps, permit);
  planRoutes(app, deps, permit);
}

function usageRoutes(app: Hono<AppEnv>, { db }: Deps, permit: Permit): void {
  app.post(
    '/api/billing/usage',
    operation({
      summary:
        'Takes a usage record, once for each Idempotency-Key; 429 quota_exceeded past the plan of the tenant',
      tag: TAG,
      auth: ['operator_key'],
      headers: { 'Idempotency-Key': 'the id of the record' },
      answers: { 200: UsageAnswer },
      errors: [...BODY_ERRORS, 'conflict', 'quota_exceeded'],
    }),
    permit('admin'),
    usageBody,
    async (c) => {
      const record = recordOf(readUsage(await bodyText(c)), keyOf(c.req.header('Idempotency-Key')));
      const { duplicate } = await db.run((orm) => recordUsage(orm, record));
      return c.json({
        status: 'ok',
        id: record.id,
        duplicate,
        tenant_id: record.tenantId,
        total_amount: record.totalAmount,
        currency: record.currency,
      });
    },
  );

  app.get(
    '/api/billing/metrics',
    operation({
      summary: 'Use and cost of the last hours, of one tenant or of all',
      tag: TAG,
      auth: ['operator_key'],
      answers: { 200: MetricsAnswer },
      errors: ['invalid'],
    }),
    permit('admin'),
    query(MetricsQuery),
    async (c) => {
      const { hours, tenant_id, currency } = c.req.valid('query');
      const end = new Date();
      const start = new Date(end.getTime() - hours * HOUR_MS);
      const metrics = await db.run((orm) => billingMetrics(orm, start, end, currency, tenant_id));
      const period = { start: start.toISOString(), end: end.toISOString(), hours };
      return c.json({ period, currency, ...metrics });
    },
  );
}

function invoiceRoutes(app: Hono<AppEnv>, { db, config }: Deps, permit: Permit): void {
  app.post(
    '/api/billing/invoice',
    operation({
      summary: 'The invoice of a tenant and period: a new one with what is on none yet, or the one there is',
      tag: TAG,
      auth: ['operator_key'],
      answers: { 200: InvoiceAnswer },
      errors: [...BODY_ERRORS, 'not_found'],
    }),
    permit('admin'),
    jsonBody(InvoiceRequest),
    async (c) => {
      const { tenant_id, period_start, period_end, currency } = c.req.valid('json');
      const period = { tenantId: tenant_id, start: period_start, end: period_end, currency };
      const invoice = await makeInvoice(db, period, config);
      if (invoice === undefined) throw new AppError('not_found', 'there is no usage to put on an invoice');
      return c.json(viewInvoice(invoice));
    },
  );

  const find = async (invoiceNumber: string) => {
    const invoice = await db.run((orm) => findInvoice(orm, invoiceNumber));
    // One that is still being made has no sums yet: whoever asked for it gets it.
    if (invoice?.status !== 'draft') throw new AppError('not_found', 'no such invoice');
    return invoice;
  };

  app.get(
    '/api/billing/invoices/:invoice_number',
    operation({
      summary: 'An invoice',
      tag: TAG,
      auth: ['operator_key'],
      answers: { 200: InvoiceAnswer },
      errors: ['invalid', 'not_found'],
    }),
    permit('admin'),
    pathParams(InvoiceParams),
    async (c) => c.json(viewInvoice(await find(c.req.valid('param').invoice_number))),
  );

  app.get(
    '/api/billing/invoices/:invoice_number/page',
    operation({
      summary: 'An invoice as a page to print; it needs nothing from elsewhere',
      tag: TAG,
      auth: ['operator_key'],
      answers: { 200: 'page' },
      errors: ['invalid', 'not_found'],
    }),
    permit('admin'),
    pathParams(InvoiceParams),
    async (c) => {
      const page = invoicePage(await find(c.req.valid('param').invoice_number));
      return c.html(page, 200, { 'Content-Security-Policy': PAGE_POLICY });
    },
  );
}

function planRoutes(app: Hono<AppEnv>, { db }: Deps, permit: Permit): void {
  app.put(
    '/api/billing/plans/:plan',
    operation({
      summary: 'Sets the monthly limits of a plan',
      tag: TAG,
      auth: ['operator_key'],
      answers: { 200: PlanAnswer },
      errors: BODY_ERRORS,
    }),
    permit('admin'),
    pathParams(PlanParams),
    jsonBody(PlanRequest),
    async (c) => {
      const { plan } = c.req.valid('param');
      const { limits } = c.req.valid('json');
      await db.run((orm) => putPlan(orm, plan, limits));
      return c.json({ plan, limits });
    },
  );

  app.put(
    '/api/billing/tenants/:tenant_id',
    operation({
      summary: 'Gives a tenant a plan, or takes it away',
      tag: TAG,
      auth: ['operator_key'],
      answers: { 200: TenantAnswer },
      errors: [...BODY_ERRORS, 'not_found'],
    }),
    permit('admin'),
    pathParams(TenantParams),
    jsonBody(TenantRequest),
    async (c) => {
      const { tenant_id } = c.req.valid('param');
      const { plan } = c.req.valid('json');
      if (plan === null) await db.run((orm) => removeTenant(orm, tenant_id));
      else if (!(await db.run((orm) => putTenant(orm, tenant_id, plan))))
        throw new AppError('not_found', 'no such plan');
      return c.json(await db.run((orm) => viewTenant(orm, tenant_id)));
    },
  );

  app.get(
    '/api/billing/tenants/:tenant_id',
    operation({
      summary: 'The plan of a tenant, and what of it is used this month',
      tag: TAG,
      auth: ['operator_key'],
      answers: { 200: TenantAnswer },
      errors: ['invalid'],
    }),
    permit('admin'),
    pathParams(TenantParams),
    async (c) => c.json(await db.run((orm) => viewTenant(orm, c.req.valid('param').tenant_id))),
  );
}

function keyOf(header: string | undefined): string | undefined {
  if (header === undefined || v.is(RecordId, header)) return header;
  throw invalidAt('Idempotency-Key', 'must be 1-128 of A-Z a-z 0-9 . _ : -');
}
