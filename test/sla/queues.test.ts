import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Queue } from 'bullmq';
import { startWorker } from '../../src/bin/worker.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { queuePrefix } from '../../src/platform/tasks.ts';
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
  assert.equal((await app.call('GET', '/admin/queues/')).headers.get('Location'), '/admin/queues');

  const basic = `Basic ${Buffer.from(`admin:${ADMIN['X-Admin-Key']}`).toString('base64')}`;
  for (const headers of [ADMIN, { Authorization: basic }]) {
    const page = await app.call('GET', '/admin/queues', { headers });
    assert.equal(page.status, 200);
    assert.doesNotMatch(page.text, /(src|href)="https?:/);
    const words = await app.call('GET', '/admin/queues/static/locales/en-US/messages.json', { headers });
    assert.equal(typeof words.json.MENU.QUEUES, 'string');
    const assets = [...page.text.matchAll(/(?:src|href)="(static\/[^"]+\.(?:js|css))"/g)].map(
      (match) => match[1],
    );
    assert.ok(assets.length > 1);
    for (const asset of assets) {
      const answer = await app.call('GET', `/admin/queues/${asset}`, { headers });
      assert.equal(answer.status, 200, asset);
      assert.match(answer.headers.get('Content-Security-Policy') ?? '', /script-src 'self'/);
      assert.doesNotMatch(answer.text, /@import url\(["']?https?:/);
    }
  }
});

test('a failed task is seen on the board and runs again from there, but not for another site', async () => {
  const settings = { REDIS_PREFIX: `${h.prefix}-board`, SHUTDOWN_TIMEOUT_SEC: '60', WORKER_PORT: '0' };
  const app = await openApp(h, settings);
  const { db } = app.deps;
  const collect = () => app.call('POST', '/v1/sla/metrics/collect', { headers: COORDINATOR });
  const lastCollection = async () =>
    (await app.call('GET', '/v1/sla/status', { headers: COORDINATOR })).json.last_collection;

  const early = await collect();
  assert.deepEqual([early.status, early.json.status], [202, 'pending'], early.text);
  assert.match(early.json.hint, /^no worker is running/);
  assert.equal((await collect()).json.task_id, early.json.task_id, 'one that waits serves everybody');
  const worker = await startWorker(app.deps.config, createLogger('silent', 'test'));
  const queue = new Queue('sla', { connection: h.redis, prefix: queuePrefix(app.deps.config.redis_prefix) });
  await waitFor(
    async () =>
      (await queue.getJobState(early.json.task_id)) === 'completed' && (await queue.getActiveCount()) === 0,
    { what: 'the collection that waited is done' },
  );
  const metrics = async () => (await fetch(`${worker.url}/metrics`)).text();
  assert.match(await metrics(), /^poolhub_tasks_failed_total\{queue="sla",task="sla-collect"\} 0$/m);

  await db.run((orm) => orm.execute('alter table poolhub.sla_collections rename to gone'));
  const failed = await collect();
  assert.equal(failed.status, 503, failed.text);
  const id = /of task (\d+)/.exec(failed.text)?.[1] ?? assert.fail(failed.text);
  assert.match(await metrics(), /^poolhub_tasks_failed_total\{queue="sla",task="sla-collect"\} [1-9]/m);
  const tasksFailed = (count: RegExp) =>
    waitFor(
      async () =>
        count.test(/^poolhub_tasks\{queue="sla",state="failed"\} (\d+)$/m.exec(await metrics())?.[1] ?? ''),
      {
        what: `the metric of failed tasks is ${count}`,
      },
    );
  await tasksFailed(/^[1-9]/);
  const listed = async () =>
    (await app.call('GET', '/admin/queues/api/queues?activeQueue=sla&status=failed', { headers: ADMIN }))
      .text;
  assert.match(await listed(), /relation .*sla_collections.* does not exist/);

  await db.run((orm) => orm.execute('alter table poolhub.gone rename to sla_collections'));
  const before = await lastCollection();
  const path = `/admin/queues/api/queues/sla/${id}/retry`;
  const crossSite = await app.call('PUT', path, { headers: { ...ADMIN, 'Sec-Fetch-Site': 'cross-site' } });
  assert.equal(crossSite.status, 403);
  assert.equal(await queue.getJobState(id), 'failed');
  const retried = await app.call('PUT', path, { headers: ADMIN });
  assert.ok(retried.status < 300, retried.text);
  await waitFor(async () => (await queue.getJobState(id)) === 'completed', { what: 'the task runs again' });
  assert.ok((await lastCollection()).collected_at > before.collected_at, 'it has measured');
  assert.equal(await queue.getFailedCount(), 0);
  assert.doesNotMatch(await listed(), /does not exist/);
  await tasksFailed(/^0$/);

  await queue.add('no-such-task', {});
  await waitFor(async () => (await queue.getFailedCount()) === 1, { what: 'a foreign task is refused' });
  assert.match(await metrics(), /^poolhub_tasks_failed_total\{queue="sla",task="unknown"\} 1$/m);
  await queue.close();
  await worker.stop();
});
