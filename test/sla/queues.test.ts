import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Queue } from 'bullmq';
import { startWorker } from '../../src/bin/worker.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { queuePrefix } from '../../src/platform/queues.ts';
import { ADMIN, COORDINATOR, openApp } from '../hub/edge/app.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();

test('the board is for administrators, and needs nothing from elsewhere', async () => {
  const app = await openApp(h);
  const refused = await app.call('GET', '/admin/queues');
  assert.equal(refused.status, 401);
  assert.match(refused.headers.get('WWW-Authenticate') ?? '', /^Basic/);
  assert.equal((await app.call('GET', '/admin/queues', { headers: COORDINATOR })).status, 403);
  assert.equal((await app.call('GET', '/admin/queues/api/queues')).status, 401);

  const basic = `Basic ${Buffer.from(`admin:${ADMIN['X-Admin-Key']}`).toString('base64')}`;
  for (const headers of [ADMIN, { Authorization: basic }]) {
    const page = await app.call('GET', '/admin/queues', { headers });
    assert.equal(page.status, 200);
    assert.doesNotMatch(page.text, /(src|href)="https?:/);
    const assets = [...page.text.matchAll(/(?:src|href)="(static\/[^"]+\.(?:js|css))"/g)].map(
      (match) => match[1],
    );
    assert.ok(assets.length > 1);
    for (const asset of assets) {
      const answer = await app.call('GET', `/admin/queues/${asset}`, { headers });
      assert.equal(answer.status, 200, asset);
      assert.doesNotMatch(answer.text, /@import url\(["']?https?:/);
    }
  }
});

test('a failed task is seen on the board and tried again from there, but not by another site', async () => {
  const settings = { REDIS_PREFIX: `${h.prefix}-board`, SHUTDOWN_TIMEOUT_SEC: '60', WORKER_PORT: '0' };
  const app = await openApp(h, settings);
  const worker = await startWorker(app.deps.config, createLogger('silent', 'test'));
  const queue = new Queue('sla', { connection: h.redis, prefix: queuePrefix(app.deps.config.redis_prefix) });
  const task = await queue.add('no-such-task', {});
  await waitFor(async () => (await task.getState()) === 'failed', { what: 'the task fails' });
  const list = await app.call('GET', '/admin/queues/api/queues?activeQueue=sla&status=failed', {
    headers: ADMIN,
  });
  assert.match(list.text, /no-such-task/);
  const path = `/admin/queues/api/queues/sla/${task.id}/retry`;
  const crossSite = await app.call('PUT', path, { headers: { ...ADMIN, 'Sec-Fetch-Site': 'cross-site' } });
  assert.equal(crossSite.status, 403);
  const retried = await app.call('PUT', path, { headers: ADMIN });
  assert.ok(retried.status < 300, retried.text);
  await waitFor(async () => ((await queue.getJob(task.id ?? ''))?.attemptsStarted ?? 0) >= 2, {
    what: 'the task runs again',
  });
  const metrics = await (await fetch(`${worker.url}/metrics`)).text();
  assert.match(metrics, /^poolhub_tasks_failed_total\{queue="sla",task="unknown"\} [1-9]/m);

  const collected = await app.call('POST', '/v1/sla/metrics/collect', { headers: COORDINATOR });
  assert.equal(collected.status, 200, collected.text);
  assert.equal(typeof collected.json.miners, 'number');
  const status = await app.call('GET', '/v1/sla/status', { headers: COORDINATOR });
  assert.ok(status.json.last_collection.collected_at >= collected.json.collected_at);
  await queue.close();
  await worker.stop();
});
