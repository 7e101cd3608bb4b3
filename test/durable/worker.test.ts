import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Queue } from 'bullmq';
import { eq } from 'drizzle-orm';
import { startWorker } from '../../src/bin/worker.ts';
import { minerStatus, miners } from '../../src/hub/miners/tables.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { queuePrefix } from '../../src/platform/tasks.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { beat, openHub, registerMiner } from './fleet.ts';

const h = await harness();
/** Long enough for a busy machine: a worker that stops in time leaves nothing behind. */
const UNHURRIED = { SHUTDOWN_TIMEOUT_SEC: '60' };

const silent = createLogger('silent', 'test');

test('three workers share the tasks: each run belongs to one of them', async () => {
  const config = await h.config({ ...UNHURRIED, STATUS_FLUSH_SEC: '1' });
  const workers = await Promise.all([1, 2, 3].map(() => startWorker(config, silent)));
  const queue = new Queue('registry', { connection: h.redis, prefix: queuePrefix(h.prefix) });
  const finished = await waitFor(
    async () => {
      const jobs = (await queue.getJobs(['completed'])).filter((job) => job.name === 'reap');
      return jobs.length >= 4 ? jobs : undefined;
    },
    { what: 'four runs of the reaper' },
  );
  const slots = finished.map((job) => Number(job.id?.split(':').at(-1)));
  assert.equal(new Set(slots).size, finished.length);
  const offsets = new Set(slots.map((slot) => slot % 1000));
  assert.equal(offsets.size, 1, 'runs are whole intervals apart');
  for (const job of finished) assert.equal(job.attemptsStarted, 1);
  assert.deepEqual((await queue.getJobSchedulers()).map((scheduler) => scheduler.key).sort(), [
    'reap',
    'strategies',
  ]);
  await queue.close();
  await Promise.all(workers.map((worker) => worker.stop()));
});

test('a task of another version is refused, not misread; its schedule is written anew', async () => {
  const config = await h.config({ ...UNHURRIED, REDIS_PREFIX: `${h.prefix}-other` });
  const queue = new Queue('registry', {
    connection: h.redis,
    prefix: queuePrefix(config.redis_prefix),
  });
  const every = 1000;
  await queue.upsertJobScheduler('reap', { every }, { name: 'reap', data: { batch: 200, budget: 800 } });
  const worker = await startWorker(config, silent);
  const wrong = [await queue.add('reap', { batch: 1e9 }), await queue.add('from-the-future', {})];
  for (const job of wrong) {
    await waitFor(async () => (await job.getState()) === 'failed', { what: `${job.name} is refused` });
  }
  const reaped = async () => (await queue.getJobs(['completed'])).some(({ name }) => name === 'reap');
  await waitFor(reaped, { what: 'the reaper runs by the schedule of this version' });
  assert.equal((await queue.getJobScheduler('reap'))?.every, every, 'the same interval in both versions');
  await queue.close();
  await worker.stop();
});

test('the tasks do their work: status is flushed, lapsed miners are removed, also from Postgres', async () => {
  const settings = {
    ...UNHURRIED,
    SESSION_TTL_SEC: '1',
    HEARTBEAT_GRACE_SEC: '1',
    STATUS_FLUSH_SEC: '1',
    WORKER_PORT: '0',
  };
  const hub = await openHub(h, settings);
  const worker = await startWorker(hub.config, silent);
  const id = await registerMiner(hub);
  await beat(hub, id, { queue_len: 3 });
  const statusOf = async () => {
    const [row] = await hub.db.run((orm) =>
      orm.select().from(minerStatus).where(eq(minerStatus.minerId, id)),
    );
    return row?.queueLen === 3;
  };
  await waitFor(statusOf, { what: 'the status is flushed' });
  await waitFor(async () => (await hub.miners.get(id)) === undefined, { what: 'the miner is reaped' });
  const removed = async () => {
    const [row] = await hub.db.run((orm) => orm.select().from(miners).where(eq(miners.minerId, id)));
    return row?.removedAt;
  };
  await waitFor(removed, { what: 'the removal is drained' });

  const live = await fetch(`${worker.url}/livez`);
  assert.deepEqual([live.status, await live.json()], [200, { status: 'ok' }]);
  const text = await (await fetch(`${worker.url}/metrics`)).text();
  assert.match(text, /^poolhub_reaper_removed_total [1-9]/m);
  assert.match(text, /^poolhub_journal_lag 0$/m);
  assert.match(text, /^poolhub_journal_written_total\{type="profile"\} [1-9]/m);
  assert.match(text, /^poolhub_tasks\{queue="durable",state="completed"\} [1-9]/m);
  assert.equal((await fetch(`${worker.url}/nothing`)).status, 404);
  await worker.stop();
  await worker.stop();
});

test('the worker heals after Redis was killed and lost everything, schedules included', async () => {
  const server = await h.privateRedis();
  const settings = { ...UNHURRIED, REDIS_URL: server.url, SESSION_TTL_SEC: '1', HEARTBEAT_GRACE_SEC: '1' };
  const hub = await openHub(h, settings);
  const worker = await startWorker(hub.config, silent);
  const lost = await registerMiner(hub);
  await waitFor(async () => (await hub.miners.get(lost)) === undefined, { what: 'the reaper runs' });
  await server.kill();
  await server.start();
  const again = await waitFor(() => registerMiner(hub), { timeoutMs: 20_000, what: 'a registration' });
  await waitFor(async () => (await hub.miners.get(again)) === undefined, {
    timeoutMs: 30_000,
    what: 'the reaper runs again',
  });
  await worker.stop();
});

test('a worker starts and stops while Postgres is away, and works once it is there', async () => {
  const server = await h.privatePostgres();
  await server.stop();
  const prefix = `${h.prefix}-late`;
  const config = await h.config({
    ...UNHURRIED,
    DB_DSN: server.dsn,
    REDIS_PREFIX: prefix,
    DB_CONNECT_TIMEOUT_SEC: '1',
  });
  const worker = await startWorker(config, silent);
  await server.start();
  const hub = await openHub(h, { DB_DSN: server.dsn, REDIS_PREFIX: prefix });
  // Nobody migrated this database but the worker.
  const id = await waitFor(() => registerMiner(hub), { timeoutMs: 30_000, what: 'the worker migrates' });
  const drained = async () => {
    const [row] = await hub.db.run((orm) => orm.select().from(miners).where(eq(miners.minerId, id)));
    return row?.addr;
  };
  await waitFor(drained, { timeoutMs: 30_000, what: 'the profile is drained' });
  await worker.stop();
});

test('as a program it says when it runs and ends cleanly', async () => {
  const env = await h.env({ WORKER_PORT: '0' });
  const worker = await h.startProcess('src/bin/worker.ts', { env, ready: /worker is running on (\S+)/ });
  assert.equal((await fetch(`${worker.ready[1]}/livez`)).status, 200);
  assert.deepEqual(await worker.stop(), { code: 0, signal: null });
});

test('as a program it ends cleanly also while Redis is away', async () => {
  const server = await h.privateRedis();
  const env = await h.env({ REDIS_URL: server.url, SHUTDOWN_TIMEOUT_SEC: '4' });
  const worker = await h.startProcess('src/bin/worker.ts', { env, ready: /worker is running/ });
  await server.kill();
  assert.deepEqual(await worker.stop(), { code: 0, signal: null });
});

test('a bad setting ends the program with one clear line', async () => {
  const env = await h.env();
  const { ADMIN_API_KEY: _missing, ...incomplete } = env;
  await assert.rejects(
    h.startProcess('src/bin/worker.ts', { env: incomplete, ready: /worker is running/ }),
    /ADMIN_API_KEY is required/,
  );
});
