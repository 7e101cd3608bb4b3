import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eq, sql } from 'drizzle-orm';
import postgres from 'postgres';
import { startWorker } from '../../src/bin/worker.ts';
import { capacitySnapshots, slaCollections, slaMetrics, slaMiners } from '../../src/hub/sla/tables.ts';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { openHub, registerMiner } from '../durable/fleet.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();
/** Two whole pages and a part. */
const MINERS = 230;

test('a collection whose worker is killed goes on where it stood, and counts every miner once', async () => {
  const settings = {
    SLA_COLLECTION_INTERVAL_SECONDS: '7200',
    SLA_WINDOW_SEC: '7200',
    SHUTDOWN_TIMEOUT_SEC: '60',
    LOG_LEVEL: 'info',
  };
  const hub = await openHub(h, settings);
  const ids = await Promise.all(Array.from({ length: MINERS }, () => registerMiner(hub)));
  const collections = () => hub.db.run((orm) => orm.select().from(slaCollections));

  const shard = shardPrefix(h.prefix, 0);

  // The last page cannot be written while another transaction holds a row of it.
  const holder = postgres(await h.db(), { max: 1 });
  h.cleanup(() => holder.end());
  const slots = await Promise.all(ids.map((id) => hub.redis.hget(keys.miner(shard, id), 'slot')));
  const onLastPage = ids.find((_, n) => Number(slots[n]) === MINERS - 1) ?? assert.fail();
  const held = await holder.reserve();
  await held`begin`;
  await held`
    insert into poolhub.sla_miners (miner_id, collected_at, live_at, uptime_ms, outage_ms, feedback_seq, places)
    values (${onLastPage}, now(), now(), 0, 0, 0, 0)`;

  const env = await h.env(settings);
  const first = await h.startProcess('src/bin/worker.ts', { env, ready: /worker is running/ });
  await waitFor(async () => (await collections())[0]?.miners === 200, {
    timeoutMs: 30_000,
    what: 'two pages are counted',
  });
  first.signal('SIGKILL');
  await first.exited;
  await held`rollback`;
  held.release();

  const second = await startWorker(hub.config, createLogger('silent', 'test'));
  h.cleanup(() => second.stop());
  const finished = async () => (await collections()).find(({ finishedAt }) => finishedAt !== null);
  const collection = await waitFor(finished, { timeoutMs: 60_000, what: 'the collection is finished' });
  assert.equal((await collections()).length, 1);
  assert.equal(collection.miners, MINERS);
  assert.equal(collection.online, MINERS);
  const [snapshot, ...others] = await hub.db.run((orm) => orm.select().from(capacitySnapshots));
  assert.deepEqual(others, []);
  assert.deepEqual(
    [snapshot?.miners, snapshot?.minersOnline, snapshot?.placesOnline],
    [MINERS, MINERS, 4 * MINERS],
  );
  const rows = await hub.db.run((orm) =>
    orm
      .select({
        miner: slaMiners.minerId,
        uptime: slaMiners.uptimeMs,
        online: sql<number>`sum(${slaMetrics.onlineMs})`,
        expected: sql<number>`sum(${slaMetrics.expectedMs})`,
      })
      .from(slaMiners)
      .innerJoin(slaMetrics, eq(slaMetrics.minerId, slaMiners.minerId))
      .groupBy(slaMiners.minerId),
  );
  assert.deepEqual(rows.map(({ miner }) => miner).sort(), [...ids].sort());
  for (const { uptime, online, expected } of rows) assert.deepEqual([online, expected], [uptime, uptime]);
});
