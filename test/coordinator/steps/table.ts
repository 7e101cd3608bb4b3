import assert from 'node:assert/strict';
import { waitFor } from '../../support/wait-for.ts';
import {
  type Case,
  cancel,
  completed,
  deliver,
  fail,
  join,
  offered,
  poll,
  running,
  type Step,
  stateOf,
  submit,
} from './case.ts';
import type { RowHold } from './holds.ts';
import { asRoot, registration } from './world.ts';

const jobRow = (c: Case, state: string, changed?: string) => ({
  row: {
    table: 'jobs',
    on: 'UPDATE' as const,
    row: { need_region: c.key, state },
    ...(changed === undefined ? {} : { changed }),
  },
});

const insertOf = (table: string, row: RowHold['row']) => ({ row: { table, on: 'INSERT' as const, row } });

/** The first call was not taken, or it was: then there is nothing left to do. */
const once = (call: (c: Case) => Promise<{ status: number; text: string }>) => async (c: Case) => {
  const answer = await call(c);
  assert.equal(answer.status, c.fate === 'undone' ? 200 : 409, answer.text);
};

const until = (state: string) => (c: Case) => waitFor(async () => (await stateOf(c)) === state);

const DONE = { ends: 'COMPLETED', told: ['accepted', 'completed'] } as const;
const delivering = { ready: running, go: deliver, again: once(deliver), ...DONE };
const paying = { ready: completed, ...DONE };

const jobSteps: readonly Step[] = [
  {
    name: 'the job is stored',
    ready: join,
    stop: (c) => insertOf('jobs', { idempotency_key: c.key }),
    go: submit,
    again: submit,
    ...DONE,
  },
  {
    name: 'the hub is asked for miners',
    ready: join,
    stop: (c) => ({ hub: { path: '/v1/match', isIt: ({ hints }) => hints.region === c.key } }),
    go: submit,
    again: submit,
    ...DONE,
  },
  {
    name: 'the offers are stored',
    ready: join,
    stop: (c) => insertOf('job_offers', { miner_id: c.key }),
    go: submit,
    again: submit,
    ...DONE,
  },
  {
    name: 'a job that the hub has nobody for is opened',
    ready: async (c) => void (await c.world.call('POST', '/v1/miners/register', registration(c.key))),
    stop: (c) => jobRow(c, 'QUEUED', 'open_at'),
    go: submit,
    again: submit,
    ends: 'COMPLETED',
    told: [],
  },
  {
    name: 'an offer lapses',
    ready: offered,
    stop: (c) => ({ row: { table: 'job_offers', on: 'DELETE', row: { miner_id: c.key } } }),
    go: async ({ world: { sql }, jobId }) => {
      await sql`update coordinator.job_offers set expires_at = now() where job_id = ${jobId}`;
      await sql`update coordinator.jobs set open_at = now() where job_id = ${jobId}`;
    },
    again: (c) =>
      waitFor(async () => {
        const rows = await c.world.sql`select from coordinator.job_offers where job_id = ${c.jobId}`;
        return rows.length === 0;
      }),
    ends: 'COMPLETED',
    told: ['accepted', 'completed', 'rejected'],
  },
  { name: 'it is assigned', ready: offered, stop: (c) => jobRow(c, 'RUNNING'), go: poll, ...DONE },
  {
    name: 'its delivery is noted',
    ready: offered,
    stop: (c) => jobRow(c, 'RUNNING', 'delivered_at'),
    go: poll,
    ...DONE,
  },
  { name: 'it is completed', stop: (c) => jobRow(c, 'COMPLETED'), ...delivering },
  { name: 'its receipt is stored', stop: (c) => insertOf('receipts', { job_id: c.jobId }), ...delivering },
  {
    name: 'what is owed is stored',
    stop: (c) => insertOf('settlements', { job_id: c.jobId }),
    ...delivering,
  },
  { name: 'its use is stored', stop: (c) => insertOf('usage_records', { job_id: c.jobId }), ...delivering },
  {
    name: 'its report is stored',
    stop: (c) => insertOf('hub_outbox', { job_id: c.jobId, outcome: 'completed' }),
    ...delivering,
  },
  {
    name: 'it fails',
    ready: running,
    stop: (c) => jobRow(c, 'FAILED'),
    go: fail,
    again: once(fail),
    ends: 'FAILED',
    told: ['accepted', 'failed'],
  },
  {
    name: 'it is canceled before anybody has it',
    ready: offered,
    stop: (c) => jobRow(c, 'CANCELED'),
    go: cancel,
    again: once(cancel),
    ends: 'CANCELED',
    told: [],
  },
  {
    name: 'it is canceled while it runs',
    ready: running,
    stop: (c) => jobRow(c, 'CANCELED'),
    go: cancel,
    again: once(cancel),
    ends: 'CANCELED',
    told: ['accepted'],
  },
  {
    name: 'its time is up',
    ready: running,
    stop: (c) => jobRow(c, 'EXPIRED'),
    go: ({ world: { sql }, jobId }) =>
      sql`update coordinator.jobs set expires_at = now() where job_id = ${jobId}`,
    again: until('EXPIRED'),
    ends: 'EXPIRED',
    told: ['accepted', 'failed'],
  },
  {
    name: 'it is taken back from a silent miner',
    ready: running,
    stop: (c) => jobRow(c, 'QUEUED'),
    go: ({ world: { sql }, key }) =>
      sql`update coordinator.miners set last_seen_at = now() - interval '1 hour' where miner_id = ${key}`,
    again: until('QUEUED'),
    ends: 'COMPLETED',
    told: ['accepted', 'completed', 'failed'],
  },
  {
    name: 'its miner registers anew',
    ready: running,
    stop: (c) => ({
      row: { table: 'miners', on: 'UPDATE', row: { miner_id: c.key }, changed: 'session_digest' },
    }),
    go: (c) => c.world.call('POST', '/v1/miners/register', registration(c.key)),
    again: (c) => c.world.call('POST', '/v1/miners/register', registration(c.key)),
    ends: 'COMPLETED',
    told: ['accepted', 'completed', 'failed'],
  },
];

const reportSteps: readonly Step[] = [
  {
    name: 'the hub has a report',
    ready: running,
    stop: (c) => ({
      hub: {
        path: '/v1/feedback',
        isIt: ({ miner_id, outcome }) => miner_id === c.key && outcome === 'completed',
      },
    }),
    go: deliver,
    only: 'committed',
    ...DONE,
  },
  {
    name: 'it is noted that the hub has a report',
    ready: running,
    stop: (c) => ({
      row: {
        table: 'hub_outbox',
        on: 'UPDATE',
        row: { miner_id: c.key, outcome: 'completed' },
        changed: 'done_at',
      },
    }),
    go: deliver,
    only: 'undone',
    ...DONE,
  },
];

const paymentSteps: readonly Step[] = [
  { name: 'the chain node makes the escrow', stop: () => ({ node: 'create' }), ...paying },
  {
    name: 'it is noted that there is an escrow',
    stop: (c) => ({
      row: { table: 'settlements', on: 'UPDATE', row: { job_id: c.jobId, state: 'escrowed' } },
    }),
    ...paying,
  },
  { name: 'the chain node releases the escrow', stop: () => ({ node: 'release' }), ...paying },
  {
    name: 'it is noted that it is paid',
    stop: (c) => ({
      row: { table: 'settlements', on: 'UPDATE', row: { job_id: c.jobId, state: 'released' } },
    }),
    ...paying,
  },
];

const reportUse = (c: Case) => {
  const record = { tenant_id: c.key, resource_type: 'gpu_hours', quantity: '2', unit_price: '0.5' };
  return c.world.call(
    'POST',
    '/api/billing/usage',
    asRoot(c.key, { ...record, timestamp: '2026-01-01T00:00:00Z' }),
  );
};

const askInvoice = (c: Case) => {
  const period = { tenant_id: c.key, period_start: '2026-01-01', period_end: '2026-02-01' };
  return c.world.call('POST', '/api/billing/invoice', asRoot(c.key, period));
};

const invoicing = {
  ready: async (c: Case) => assert.equal((await reportUse(c)).status, 200),
  go: askInvoice,
  again: async (c: Case) => {
    const invoice = await askInvoice(c);
    assert.equal(invoice.json.total_amount, '1', invoice.text);
    const numbers = await c.world
      .sql`select invoice_number from coordinator.invoices where tenant_id = ${c.key}`;
    assert.deepEqual(
      numbers.map((row) => row.invoice_number),
      [invoice.json.invoice_number],
    );
  },
};

const invoiceRow = (c: Case, status: string) => ({
  row: { table: 'invoices', on: 'UPDATE' as const, row: { tenant_id: c.key, status } },
});

const billingSteps: readonly Step[] = [
  {
    name: 'a use that the hub reports is stored',
    ready: async () => {},
    stop: (c) => insertOf('usage_records', { id: c.key }),
    go: reportUse,
    again: async (c) => {
      assert.equal((await reportUse(c)).json.duplicate, c.fate === 'committed');
      const records = await c.world.sql`select from coordinator.usage_records where tenant_id = ${c.key}`;
      assert.equal(records.length, 1);
    },
  },
  { name: 'an invoice is begun', stop: (c) => insertOf('invoices', { tenant_id: c.key }), ...invoicing },
  {
    name: 'uses are put on an invoice',
    stop: (c) => ({
      row: { table: 'usage_records', on: 'UPDATE', row: { tenant_id: c.key }, changed: 'invoice_number' },
    }),
    ...invoicing,
  },
  { name: 'an invoice is closed', stop: (c) => invoiceRow(c, 'closing'), ...invoicing },
  { name: 'an invoice is summed up', stop: (c) => invoiceRow(c, 'draft'), ...invoicing },
];

export const STEPS: readonly Step[] = [...jobSteps, ...reportSteps, ...paymentSteps, ...billingSteps];
