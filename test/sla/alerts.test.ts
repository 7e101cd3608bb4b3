import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { outputOf } from '../../src/embedded/programs.ts';
import { deliverDue, signatureOf } from '../../src/hub/sla/deliveries.ts';
import type { Alert } from '../../src/hub/sla/publish.ts';
import { slaAlerts, slaDeliveries, slaWebhooks } from '../../src/hub/sla/tables.ts';
import { replaceWebhooks } from '../../src/hub/sla/webhooks.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { openWorld, type World } from './world.ts';

const h = await harness();
const SECRET = 'a secret of sixteen or more';
const BUDGET_MS = 5_000;

interface Received {
  readonly headers: Record<string, unknown>;
  readonly body: string;
}

/** A receiver that answers with the given statuses in turn, then 200. */
async function receiver(statuses: number[]): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    received.push({ headers: request.headers, body });
    response.writeHead(statuses.shift() ?? 200).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  h.cleanup(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, received };
}

/** Opens one violation, and with it one alert of a miner. */
async function violate(world: World): Promise<void> {
  const miner = await world.register();
  await world.job(miner, 'failed');
  await world.run(20, () => world.beat(miner));
  await world.collect();
}

/** Writes alerts with their deliveries, as a collection does. */
async function addAlerts({ deps }: World, count: number): Promise<void> {
  await deps.db.run((orm) =>
    orm.execute(sql`
      with alerts as (
        insert into ${slaAlerts} (type, data, created_at)
        select 'violation.opened', '{}', now() from generate_series(1, ${count}::int) returning id
      )
      insert into ${slaDeliveries} (alert_id, webhook_id, next_at)
      select a.id, w.id, now() from alerts a cross join ${slaWebhooks} w`),
  );
}

test('webhooks are signed, retried until they are taken, and sent once after that', async () => {
  const world = await openWorld(h);
  const { db } = world.deps;
  const { url, received } = await receiver([500, 429, 302]);
  await replaceWebhooks(db, [{ url, secret: SECRET }]);
  await violate(world);
  const left = () => db.run((orm) => orm.select().from(slaDeliveries));
  assert.equal((await left()).length, 1);
  await waitFor(
    async () => {
      await db.run((orm) => orm.update(slaDeliveries).set({ nextAt: sql`now()` }));
      await Promise.all([deliverDue(world.deps, 10, BUDGET_MS), deliverDue(world.deps, 10, BUDGET_MS)]);
      return (await left()).length === 0;
    },
    { what: 'the delivery is taken' },
  );
  assert.equal(received.length, 4);
  assert.equal(new Set(received.map(({ headers }) => headers['x-poolhub-delivery'])).size, 1);
  for (const { headers, body } of received) {
    const signature = String(headers['x-poolhub-signature']);
    const at = Number(/^t=(\d+),/.exec(signature)?.[1]);
    assert.equal(signature, signatureOf(SECRET, body, at));
    assert.equal(
      signature.split('v1=')[1],
      createHmac('sha256', SECRET).update(`${at}.${body}`).digest('hex'),
    );
    const alert = JSON.parse(body) as Alert;
    assert.equal(alert.type, 'violation.opened');
    assert.equal(alert.data.violation_type, 'completion_rate');
  }
  await replaceWebhooks(db, []);
});

test('the receiver of the docs takes what is genuine, once, and refuses the rest', async () => {
  const world = await openWorld(h);
  const { db } = world.deps;
  const env = { WEBHOOK_SECRET: SECRET, PORT: '0' };
  const program = await h.startProcess('docs/examples/webhook-receiver.ts', {
    env,
    ready: /listening on (\d+)/,
  });
  const url = `http://127.0.0.1:${program.ready[1]}/`;
  await replaceWebhooks(db, [{ url, secret: SECRET }]);
  await violate(world);
  const { failed, sent } = await deliverDue(world.deps, 100, BUDGET_MS);
  assert.ok(failed === 0 && sent > 0);
  await replaceWebhooks(db, []);

  const body = JSON.stringify({
    id: 9_001,
    type: 'violation.opened',
    data: { miner_id: 'm', severity: 'low' },
  });
  const nowSec = Math.floor(Date.now() / 1000);
  const post = async (signature: string, text = body) =>
    (await fetch(url, { method: 'POST', body: text, headers: { 'X-Poolhub-Signature': signature } })).status;
  const signature = signatureOf(SECRET, body, nowSec);
  assert.deepEqual([await post(signature), await post(signature)], [204, 204]);
  for (const wrong of [
    '',
    't=,v1=',
    signatureOf('another secret', body, nowSec),
    signatureOf(SECRET, body, nowSec - 301),
  ])
    assert.equal(await post(wrong), 401, wrong);
  assert.equal(await post(signature, `${body} `), 401);
  await waitFor(() => program.output().includes('9001 violation.opened m low'), {
    what: 'the alert is printed',
  });
  assert.equal(program.output().match(/^9001 /gm)?.length, 1);
  assert.match(program.output(), /^\d+ violation\.opened \S+ critical$/m);

  await shellVerdict(body, signature, 'genuine\n');
  await shellVerdict(`${body} `, signature, '');
});

/** Runs the check that the docs give for a shell, where there is an openssl. */
async function shellVerdict(body: string, signature: string, expected: string): Promise<void> {
  const text = await readFile(join(packageRoot, 'docs/ALERTS.md'), 'utf8');
  const [, script = ''] = /^```sh\n(t=[\s\S]*?)^```$/m.exec(text) ?? [];
  assert.ok(script.includes('openssl dgst'));
  const folder = await mkdtemp(join(tmpdir(), 'poolhub-alerts-'));
  h.cleanup(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'body.json'), body);
  const hasOpenssl = 'command -v openssl >/dev/null || { printf skipped; exit 0; }';
  const output = await outputOf('/bin/sh', ['-c', `${hasOpenssl}\ncd '${folder}'\n${script}true`], {
    env: { PATH: process.env.PATH, SECRET, SIGNATURE: signature },
  });
  if (output !== 'skipped') assert.equal(output, expected);
}

test('a receiver that is gone does not hold up the rest, and is given up in the end', async () => {
  const world = await openWorld(h);
  const { db } = world.deps;
  const { url, received } = await receiver([]);
  const gone = 'http://127.0.0.1:1/';
  await replaceWebhooks(db, [
    { url: gone, secret: SECRET },
    { url, secret: SECRET },
  ]);
  await addAlerts(world, 30);
  assert.deepEqual(await deliverDue(world.deps, 7, BUDGET_MS), { sent: 30, failed: 7 });
  assert.equal(new Set(received.map(({ body }) => (JSON.parse(body) as Alert).id)).size, 30);

  const stale = sql`update ${slaAlerts} set created_at = now() - interval '25 hours'`;
  await db.run((orm) => orm.execute(stale));
  assert.deepEqual(await deliverDue(world.deps, 7, BUDGET_MS), { sent: 0, failed: 7 });
  const isGivenUp = ({ failedAt }: { failedAt: Date | null }) => failedAt !== null;
  const old = await db.run((orm) => orm.select().from(slaDeliveries));
  assert.equal(old.filter(isGivenUp).length, 7, 'what waits for a day is given up');
  await replaceWebhooks(db, [{ url: gone, secret: SECRET }]);
  await db.run((orm) => orm.delete(slaDeliveries));

  await violate(world);
  // The pool of the test before may be in violation too by now.
  const due = await db.run((orm) => orm.update(slaDeliveries).set({ attempts: 11 }).returning());
  assert.ok(due.length > 0);
  assert.deepEqual(await deliverDue(world.deps, 100, BUDGET_MS), { sent: 0, failed: due.length });
  const [row] = await db.run((orm) => orm.select().from(slaDeliveries));
  assert.ok(row?.failedAt instanceof Date && row.lastError !== null);
  const given_up = new RegExp(
    `^poolhub_webhook_deliveries_total\\{result="given_up"\\} ${7 + due.length}$`,
    'm',
  );
  assert.match(await world.deps.metrics.registry.metrics(), given_up);
  await db.run((orm) => orm.update(slaDeliveries).set({ nextAt: sql`now()` }));
  assert.deepEqual(await deliverDue(world.deps, 10, BUDGET_MS), { sent: 0, failed: 0 });
  await replaceWebhooks(db, []);
  assert.equal((await db.run((orm) => orm.select().from(slaDeliveries))).length, 0);
});
