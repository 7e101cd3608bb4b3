import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { makeInvoice } from '../../src/coordinator/billing/invoices.ts';
import { billingRoutes } from '../../src/coordinator/billing/routes.ts';
import { harness } from '../support/harness.ts';
import { OPERATOR, openRoutes } from './settlement-app.ts';

const h = await harness();
const app = await openRoutes(h, { BILLING_TAX_RATE: '0.19', BILLING_DUE_DAYS: '14' }, billingRoutes);
const headers = OPERATOR;

async function use(tenantId: string, more: Record<string, unknown> = {}): Promise<void> {
  const body = {
    tenant_id: tenantId,
    resource_type: 'gpu_hours',
    quantity: '1',
    unit_price: '0.5',
    timestamp: '2026-01-10T00:00:00Z',
    ...more,
  };
  const answer = await app.call('POST', '/api/billing/usage', {
    body,
    headers: { ...headers, 'Idempotency-Key': randomUUID() },
  });
  assert.equal(answer.status, 200, answer.text);
}

const invoice = (tenantId: string, start = '2026-01-01', end = '2026-02-01', more = {}) =>
  app.call('POST', '/api/billing/invoice', {
    body: { tenant_id: tenantId, period_start: start, period_end: end, ...more },
    headers,
  });

const today = () => new Date().toISOString().slice(0, 10).replaceAll('-', '');

test('an invoice has the records of its period, and stays as it is', async () => {
  await use('acme', { quantity: '2', metadata: { a: 1 } });
  await use('acme', { quantity: '0.5' });
  await use('acme', { resource_type: 'api_calls', quantity: '3', unit_price: '0.0001' });
  await use('acme', { resource_type: 'api_calls', quantity: '1', unit_price: '0.0002' });
  await use('acme', { timestamp: '2026-02-01T00:00:00Z' });
  await use('acme', { timestamp: '2025-12-31T23:59:59.999Z' });
  await use('acme', { currency: 'EUR' });
  await use('acme-2');
  const day = today();
  const { status, json } = await invoice('acme');
  assert.equal(status, 200);
  const { created_at, ...rest } = json;
  const due = new Date(Date.parse(created_at) + 14 * 86_400_000).toISOString().slice(0, 10);
  assert.deepEqual(rest, {
    invoice_number: `INV-acme-${day}-0001`,
    status: 'draft',
    tenant_id: 'acme',
    period_start: '2026-01-01T00:00:00.000Z',
    period_end: '2026-02-01T00:00:00.000Z',
    line_items: [
      { resource_type: 'api_calls', quantity: '4', unit_price: null, amount: '0.0005', records: 2 },
      { resource_type: 'gpu_hours', quantity: '2.5', unit_price: '0.5', amount: '1.25', records: 2 },
    ],
    subtotal: '1.2505',
    tax_rate: '0.19',
    tax: '0.237595',
    total_amount: '1.488095',
    currency: 'USD',
    due_date: due,
  });
  // A late record does not change it; the next period that covers it takes it.
  await use('acme', { quantity: '7' });
  assert.deepEqual((await invoice('acme')).json, json);
  const wider = (await invoice('acme', '2026-01-01', '2026-01-31')).json;
  assert.deepEqual([wider.invoice_number, wider.subtotal], [`INV-acme-${day}-0002`, '3.5']);
  const euros = (await invoice('acme', '2026-01-01', '2026-02-01', { currency: 'EUR' })).json;
  assert.deepEqual([euros.subtotal, euros.currency], ['0.5', 'EUR']);
  const found = await app.call('GET', `/api/billing/invoices/${json.invoice_number}`, { headers });
  assert.deepEqual(found.json, json);
});

test('what is reported after its period was invoiced comes on the next invoice, in lines of its own', async () => {
  const january = '2026-01-31T23:59:59Z';
  // Of a period that nobody has invoiced: it waits for that.
  await use('late', { timestamp: '2025-12-31T00:00:00Z', quantity: '100' });
  await use('late');
  assert.equal((await invoice('late')).json.subtotal, '0.5');
  await use('late', { timestamp: january, quantity: '3' });
  await use('late', { timestamp: january, currency: 'EUR' });
  assert.equal((await invoice('late')).json.subtotal, '0.5');
  await use('late', { timestamp: '2026-02-10T00:00:00Z', quantity: '2' });
  const { json } = await invoice('late', '2026-02-01', '2026-03-01');
  const line = { resource_type: 'gpu_hours', unit_price: '0.5', records: 1 };
  assert.deepEqual(json.line_items, [
    { ...line, quantity: '2', amount: '1' },
    { ...line, quantity: '3', amount: '1.5', late: true },
  ]);
  assert.equal(json.subtotal, '2.5');
  const page = await app.call('GET', `/api/billing/invoices/${json.invoice_number}/page`, { headers });
  assert.match(page.text, /<td>gpu hours, former periods<\/td><td>3<\/td>/);
  // A month without use has an invoice for what is late, and none when nothing is.
  await use('late', { timestamp: '2026-02-28T00:00:00Z', quantity: '4' });
  const quiet = await invoice('late', '2026-03-01', '2026-04-01');
  assert.deepEqual(quiet.json.line_items, [{ ...line, quantity: '4', amount: '2', late: true }]);
  assert.equal((await invoice('late', '2026-04-01', '2026-05-01')).status, 404);
  assert.equal((await invoice('late', '2025-12-01', '2026-01-01')).json.subtotal, '50');
});

test('a tenant may be named as the pool hub lets it', async () => {
  const tenant = 'Zoë & Söhne/1 <b>';
  await use(tenant, { job_id: 'job 1 of 2' });
  const { json } = await invoice(tenant);
  assert.equal(json.invoice_number, `INV-${tenant}-${today()}-0001`);
  const at = `/api/billing/invoices/${encodeURIComponent(json.invoice_number)}`;
  assert.deepEqual((await app.call('GET', at, { headers })).json, json);
  const page = await app.call('GET', `${at}/page`, { headers });
  assert.match(page.text, /<h1>Invoice INV-Zoë &amp; Söhne\/1 &lt;b&gt;-/);
  const view = await app.call('GET', `/api/billing/tenants/${encodeURIComponent(tenant)}`, { headers });
  assert.equal(view.json.tenant_id, tenant);
});

test('there is no invoice of nothing, and no number is used up for it', async () => {
  assert.equal((await invoice('nobody')).status, 404);
  await use('nobody');
  assert.match((await invoice('nobody')).json.invoice_number, /-0001$/);
  assert.equal((await invoice('nobody', '2026-03-01', '2026-03-01')).status, 422);
  assert.equal((await invoice('nobody', '2026-03-02', '2026-03-01')).status, 422);
  for (const number of ['INV-nobody-20200101-0001', 'INV-x-20200101-0009'])
    assert.equal((await app.call('GET', `/api/billing/invoices/${number}`, { headers })).status, 404);
  assert.equal((await app.call('GET', '/api/billing/invoices/x', { headers })).status, 422);
});

test('invoices of overlapping periods at the same moment: each record on one, numbers without gaps', async () => {
  const days = Array.from({ length: 12 }, (_, i) => `2026-01-${String(i + 1).padStart(2, '0')}`);
  await Promise.all(
    days.flatMap((day) => [1, 2, 3].map(() => use('busy', { timestamp: `${day}T08:00:00Z` }))),
  );
  // Five callers for each of eleven overlapping periods.
  const calls = days
    .slice(1)
    .flatMap((end, i) => Array.from({ length: 5 }, () => invoice('busy', days[Math.max(0, i - 3)], end)));
  const answers = await Promise.all(calls);
  const made = answers.filter(({ status }) => status === 200).map(({ json }) => json);
  assert.ok(answers.every(({ status }) => status === 200 || status === 404));
  const byNumber = new Map(made.map((one) => [one.invoice_number, one]));
  for (const one of made) assert.deepEqual(one, byNumber.get(one.invoice_number));
  const numbers = [...byNumber.keys()].sort();
  assert.deepEqual(
    numbers,
    numbers.map((_, i) => `INV-busy-${today()}-${String(i + 1).padStart(4, '0')}`),
  );
  const records = [...byNumber.values()]
    .flatMap((one) => one.line_items)
    .reduce((n, line) => n + line.records, 0);
  assert.equal(records, 33);
  const [sums] = await app.db.run((orm) =>
    orm.execute(
      sql`select count(*)::int as n, count(invoice_number)::int as invoiced from coordinator.usage_records where tenant_id = 'busy'`,
    ),
  );
  assert.deepEqual(sums, { n: 36, invoiced: 33 });
});

for (const left of ['collecting', 'closing']) {
  test(`an invoice that was left ${left} by a crash is finished by whoever asks for it next`, async () => {
    const tenant = `crashed-${left}`;
    await use(tenant);
    await use(tenant);
    const number = `INV-${tenant}-${today()}-0001`;
    await app.db.run(async (orm) => {
      await orm.execute(sql`insert into coordinator.invoice_numbers values (${tenant}, now()::date, 1)`);
      await orm.execute(sql`insert into coordinator.invoices (invoice_number, tenant_id, period_start, period_end, currency, status,
        tax_rate, due_date) values (${number}, ${tenant}, '2026-01-01T00:00Z', '2026-02-01T00:00Z', 'USD', ${left}, 0, now())`);
      await orm.execute(sql`update coordinator.usage_records set invoice_number = ${number}
        where id = (select id from coordinator.usage_records where tenant_id = ${tenant} limit 1)`);
    });
    assert.equal((await app.call('GET', `/api/billing/invoices/${number}`, { headers })).status, 404);
    const { json } = await invoice(tenant);
    assert.deepEqual([json.invoice_number, json.subtotal], [number, left === 'collecting' ? '1' : '0.5']);
  });
}

test('more records than a batch', async () => {
  await app.db.run((orm) =>
    orm.execute(sql`insert into coordinator.usage_records (id, tenant_id, resource_type, quantity, unit_price, total_amount, currency, digest, used_at)
      select 'many-' || n, 'many', 'api_calls', 1, 0.0001, 0.0001, 'USD', '', '2026-01-05T00:00Z' from generate_series(1, 12001) n`),
  );
  const { json } = await invoice('many');
  assert.deepEqual([json.line_items[0].records, json.subtotal], [12_001, '1.2001']);
});

test('the total is the exact sum of the records', async () => {
  const amounts = fc.array(fc.bigInt({ min: 0n, max: 10n ** 20n - 1n }), { minLength: 1, maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(amounts, async (units) => {
      const tenantId = `sum-${randomUUID()}`;
      const rows = units.map(
        (
          unit,
        ) => sql`(${randomUUID()}, ${tenantId}, 'r', 1, ${decimal(unit)}::numeric, ${decimal(unit)}::numeric, 'USD', '',
        '2026-01-05T00:00Z'::timestamptz)`,
      );
      await app.db.run((orm) =>
        orm.execute(sql`insert into coordinator.usage_records (id, tenant_id, resource_type, quantity, unit_price, total_amount, currency, digest, used_at)
          values ${sql.join(rows, sql`, `)}`),
      );
      const period = {
        tenantId,
        start: new Date('2026-01-01'),
        end: new Date('2026-02-01'),
        currency: 'USD',
      };
      const made = await makeInvoice(app.db, period, { billing_tax_rate: 0.075, billing_due_days: 1 });
      const subtotal = units.reduce((sum, unit) => sum + unit, 0n);
      const tax = (2n * subtotal * 75n + 1000n) / 2000n;
      assert.deepEqual(
        [made?.subtotal, made?.tax, made?.totalAmount],
        [decimal(subtotal), decimal(tax), decimal(subtotal + tax)],
      );
    }),
    { numRuns: 25 },
  );
});

function decimal(units: bigint): string {
  const digits = units.toString().padStart(9, '0');
  return `${digits.slice(0, -8)}.${digits.slice(-8)}`;
}

test('the page needs nothing from elsewhere, and escapes what it shows', async () => {
  await app.db.run((orm) =>
    orm.execute(sql`insert into coordinator.usage_records (id, tenant_id, resource_type, quantity, unit_price, total_amount, currency, digest, used_at)
      values ('html-1', 'paper', '<img src=x>', 1, 1234.5, 1234.5, 'USD', '', '2026-01-05T00:00Z'), ('html-2', 'paper', 'gpu_hours', 2, 0.12345678, 0.24691356, 'USD', '', '2026-01-05T00:00Z')`),
  );
  const { json } = await invoice('paper');
  const page = await app.call('GET', `/api/billing/invoices/${json.invoice_number}/page`, { headers });
  assert.equal(page.status, 200);
  assert.match(page.headers.get('Content-Type') ?? '', /^text\/html/);
  assert.ok(!page.text.includes('<img') && page.text.includes('&lt;img src=x&gt;'));
  assert.doesNotMatch(page.text, /https?:|<script|<link|url\(|@import|\[object/);
  assert.match(page.text, /<td>gpu hours<\/td><td>2<\/td><td>0.12345678<\/td><td>0.24691356 USD<\/td>/);
  assert.match(page.text, /<td colspan="3">Tax \(19 %\)<\/td>/);
  assert.match(page.text, /<td colspan="3">Total<\/td><td>1469.34882714 USD<\/td>/);
  const policy = page.headers.get('Content-Security-Policy') ?? '';
  const style = /<style>([\s\S]*)<\/style>/.exec(page.text)?.[1] ?? '';
  const digest = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(style))).toString('base64');
  assert.ok(policy.startsWith("default-src 'none'") && policy.includes(`'sha256-${digest}'`), policy);
});

test('metrics sum up what was used, by resource, tenant and day', async () => {
  // A currency of its own: other tests of this file use days that may be any time ago.
  const currency = 'MTR';
  const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000).toISOString();
  await use('m-1', { currency, timestamp: hoursAgo(1), quantity: '0.1' });
  await use('m-1', { currency, timestamp: hoursAgo(2), quantity: '0.2' });
  await use('m-2', {
    currency,
    timestamp: hoursAgo(3),
    resource_type: 'api_calls',
    quantity: '10',
    unit_price: '1',
  });
  await use('m-2', { currency, timestamp: hoursAgo(30), quantity: '1000' });
  await use('m-3', { timestamp: hoursAgo(1), currency: 'EUR' });
  const get = (query: string) =>
    app.call('GET', `/api/billing/metrics?currency=${currency}&${query}`, { headers });
  const { json } = await get('hours=24');
  assert.deepEqual(json.totals, { quantity: '10.3', cost: '10.15', records: 3, active_tenants: 2 });
  assert.deepEqual(json.by_resource, [
    { resource_type: 'api_calls', quantity: '10', cost: '10', records: 1 },
    { resource_type: 'gpu_hours', quantity: '0.3', cost: '0.15', records: 2 },
  ]);
  assert.deepEqual(
    json.top_tenants.map((tenant: { tenant_id: string; cost: string }) => [tenant.tenant_id, tenant.cost]),
    [
      ['m-2', '10'],
      ['m-1', '0.15'],
    ],
  );
  assert.equal(json.period.hours, 24);
  const days: Array<{ date: string; records: number }> = json.daily_trend;
  assert.deepEqual(
    days.map(({ date }) => date),
    [...days.map(({ date }) => date)].sort(),
  );
  assert.equal(
    days.reduce((n, { records }) => n + records, 0),
    3,
  );
  const one = (await get('hours=48&tenant_id=m-2')).json;
  assert.deepEqual([one.totals.cost, one.totals.active_tenants], ['510', 1]);
  const none = (await get('hours=1&tenant_id=nobody-at-all')).json;
  assert.deepEqual(none.totals, { quantity: '0', cost: '0', records: 0, active_tenants: 0 });
  assert.deepEqual([none.by_resource, none.top_tenants, none.daily_trend], [[], [], []]);
  for (const bad of ['hours=0', 'hours=9999999', 'tenant_id=', 'x=1'])
    assert.equal((await get(bad)).status, 422, bad);
});
