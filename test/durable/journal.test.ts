import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eq } from 'drizzle-orm';
import { openDeps } from '../../src/hub/deps.ts';
import { drainShard } from '../../src/hub/journal/drain.ts';
import { feedbackSink, minerSink } from '../../src/hub/journal/sinks.ts';
import { authorizeMiner } from '../../src/hub/miners/enrollment.ts';
import { type MinerEntry, saveMinerEntries } from '../../src/hub/miners/journal.ts';
import { deleteOverride, putOverride, readOverrides } from '../../src/hub/miners/overrides.ts';
import { flushStatus } from '../../src/hub/miners/status-flush.ts';
import { minerStatus, miners } from '../../src/hub/miners/tables.ts';
import { feedback } from '../../src/hub/trust/tables.ts';
import { connectDatabase } from '../../src/platform/db.ts';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { whenReady } from '../../src/platform/redis.ts';
import { harness } from '../support/harness.ts';
import { beat, openHub, profileOf, registerMiner, sha256, uniqueId } from './fleet.ts';

const h = await harness();
const hub = await openHub(h);
const shard = shardPrefix(h.prefix, 0);
const journal = keys.journal(shard);

const drainDeps = { redis: hub.redis, prefix: h.prefix, log: hub.log, metrics: hub.metrics };
const drain = (deps = hub, batch = 100) =>
  drainShard(drainDeps, [minerSink(deps), feedbackSink(deps)], 0, batch, 10_000);

async function rowOf(minerId: string) {
  const rows = await hub.db.run((orm) => orm.select().from(miners).where(eq(miners.minerId, minerId)));
  assert.ok(rows[0]);
  return rows[0];
}

const session = (id: string) => ({ kind: 'session', digest: sha256(`session of ${id}`) }) as const;

const feedbackData = (minerId: string, jobId: string) =>
  JSON.stringify({
    job_id: jobId,
    miner_id: minerId,
    outcome: 'completed',
    latency_ms: 5,
    fail_code: null,
    tokens_spent: null,
    reservation_id: null,
    at_ms: Date.now(),
  });

test('a drain does not bring back the journal of a shard that is gone', async () => {
  const gone = 7;
  assert.deepEqual(await drainShard(drainDeps, [], gone, 100, 10_000), { written: 0, dead: 0 });
  assert.deepEqual(await h.redis.keys(`${shardPrefix(h.prefix, gone)}*`), []);
});

test('a registration, its changes and the departure reach the row of the miner', async () => {
  const id = await registerMiner(hub, undefined, profileOf({ tenant_id: 'acme', gpu_count: 2 }));
  await drain();
  const registered = await rowOf(id);
  assert.equal(registered.addr, '10.0.0.1:9000');
  assert.deepEqual(registered.capabilities, ['embed']);
  assert.deepEqual(registered.accel, ['cuda']);
  assert.deepEqual(
    [registered.basePrice, registered.gpuVramGb, registered.gpuCount, registered.tenantId],
    ['0.50000000', 24, 2, 'acme'],
  );
  assert.deepEqual([registered.walletAddress, registered.removedAt], [null, null]);
  assert.ok(registered.lastSeenAt !== null && registered.profileVersion > 0);

  const change = { base_price: '0.7', tags: ['slow'], max_parallel: 2, region: 'us' };
  assert.equal((await hub.miners.update(id, session(id), {}, change)).status, 'ok');
  await drain();
  const changed = await rowOf(id);
  assert.deepEqual([changed.basePrice, changed.tags, changed.maxParallel], ['0.70000000', ['slow'], 2]);
  assert.deepEqual([changed.capabilities, changed.region], [['embed'], 'us'], 'what did not change is kept');

  await hub.miners.logout(id, session(id));
  await drain();
  assert.ok((await rowOf(id)).removedAt);
  await registerMiner(hub, id);
  await drain();
  assert.equal((await rowOf(id)).removedAt, null);
});

test('several entries of one miner in one batch end in the last state', async () => {
  const id = await registerMiner(hub);
  await hub.miners.update(id, session(id), {}, { base_price: '0.1' });
  await hub.miners.remove(id, 'test');
  await registerMiner(hub, id, profileOf({ capabilities: ['whisper'], gpu_vram_gb: undefined }));
  await hub.miners.update(id, session(id), {}, { base_price: '0.9' });
  await drain();
  const row = await rowOf(id);
  assert.deepEqual([row.basePrice, row.capabilities, row.gpuVramGb], ['0.90000000', ['whisper'], null]);
  assert.equal(row.removedAt, null);
});

test('an older entry never overwrites a newer one, and the same one again changes nothing', async () => {
  const id = await registerMiner(hub);
  await drain();
  const { profileVersion } = await rowOf(id);
  const columns = { base_price: '7', tags: ['newest'] };
  const newest: MinerEntry = { minerId: id, version: profileVersion + 10, kind: 'change', columns };
  const older: MinerEntry = { ...newest, version: profileVersion + 5, columns: { tags: ['old'] } };
  for (const entry of [newest, older, newest]) {
    await hub.db.run((orm) => saveMinerEntries(orm, [entry]));
    assert.deepEqual((await rowOf(id)).tags, ['newest']);
  }
});

test('a clock that steps back holds up no change, and no time is later than the clock', async () => {
  const clock = { nowMs: Date.now() + 3_600_000 };
  const prefix = `${h.prefix}-clock`;
  const config = await h.config({ MINER_ENROLLMENT: 'open', REDIS_PREFIX: prefix });
  const stepping = openDeps(config, hub.log, { processMetrics: false, clock: () => clock.nowMs });
  h.cleanup(() => stepping.close());
  await whenReady(stepping.redis, 5000);
  const drainIt = () => drainShard({ ...drainDeps, prefix }, [minerSink(stepping)], 0, 100, 10_000);
  const [changed, moved, returned] = [
    await registerMiner(stepping),
    await registerMiner(stepping),
    await registerMiner(stepping),
  ];
  await stepping.miners.remove(returned, 'test');
  await drainIt();
  clock.nowMs = Date.now();
  assert.equal(
    (await stepping.miners.update(changed, session(changed), {}, { base_price: '0.9' })).status,
    'ok',
  );
  await registerMiner(stepping, moved, profileOf({ region: 'us' }));
  await registerMiner(stepping, returned);
  await drainIt();
  assert.equal((await rowOf(changed)).basePrice, '0.90000000');
  assert.equal((await rowOf(moved)).region, 'us');
  assert.equal((await rowOf(returned)).removedAt, null);
  await stepping.miners.remove(moved, 'test');
  await drainIt();
  const { removedAt, lastSeenAt } = await rowOf(moved);
  assert.ok(
    removedAt && lastSeenAt && removedAt.getTime() <= Date.now() && lastSeenAt.getTime() <= Date.now(),
  );
});

test('entries that can never be written are put aside and hold up nothing', async () => {
  const id = await registerMiner(hub);
  const other = await registerMiner(hub, undefined, profileOf({ base_price: '0.25' }));
  const jobId = uniqueId('job');
  const huge = JSON.stringify({ miner_id: id, changes: { base_price: '9'.repeat(40) } });
  const version = String(Date.now() + 1000);
  for (const [type, data] of [
    ['feedback', 'not json'],
    ['feedback', '{"job_id":1}'],
    ['feedback', feedbackData(uniqueId('nobody'), uniqueId('job'))],
    ['profile_change', huge],
    ['from-the-future', '{}'],
    ['removed', `{"miner_id":"${uniqueId('nobody')}","at_ms":1}`],
    ['feedback', feedbackData(id, jobId)],
  ] as const) {
    await hub.redis.xadd(journal, '*', 'type', type, 'version', version, 'data', data);
  }
  const dead = keys.journalDead(shard);
  const before = await hub.redis.xlen(dead);
  const result = await drain();
  assert.equal(result.dead, 6);
  assert.equal((await hub.redis.xlen(dead)) - before, 6);
  assert.equal(await hub.redis.xlen(journal), 0);
  const letters = (await hub.redis.xrange(dead, '-', '+')).map(([, fields]) => fields.join(' '));
  assert.ok(letters.some((letter) => letter.includes('numeric field overflow')));
  assert.equal((await rowOf(other)).basePrice, '0.25000000');
  assert.equal((await rowOf(id)).trustSeq, 1);
  const stored = await hub.db.run((orm) => orm.select().from(feedback).where(eq(feedback.jobId, jobId)));
  assert.equal(stored[0]?.applied, true);
  assert.equal((await hub.miners.get(id))?.trust, '0.6');
});

test('with Postgres away nothing is acknowledged; afterwards all of it is written, once', async () => {
  const settings = { ...hub.config, db_dsn: 'postgresql://nobody@127.0.0.1:1/none' };
  const db = connectDatabase(settings, 'test');
  h.cleanup(() => db.close(0));
  const id = await registerMiner(hub);
  const jobs = Array.from({ length: 30 }, () => uniqueId('job'));
  for (const jobId of jobs)
    await hub.redis.xadd(journal, '*', 'type', 'feedback', 'data', feedbackData(id, jobId));
  await assert.rejects(drain({ ...hub, db }, 7));
  assert.equal(await hub.redis.xlen(journal), 31);
  await Promise.all([drain(hub, 7), drain(hub, 7), drain(hub, 7)]);
  assert.equal(await hub.redis.xlen(journal), 0);
  const pending = (await hub.redis.xpending(journal, 'worker')) as [number];
  assert.equal(pending[0], 0);
  const stored = await hub.db.run((orm) => orm.select().from(feedback).where(eq(feedback.minerId, id)));
  assert.deepEqual(stored.map((row) => row.jobId).sort(), [...jobs].sort());
  const row = await rowOf(id);
  assert.equal(row.trustSeq, 30);
  assert.equal(Number((await hub.miners.get(id))?.alpha), row.trustAlpha);
});

test('a key that was taken away while its registration was under way ends with the drain', async () => {
  const [revoked, rotated] = [await registerMiner(hub), await registerMiner(hub)];
  await hub.db.run((orm) => orm.update(miners).set({ apiKeyHash: null }).where(eq(miners.minerId, revoked)));
  await hub.db.run((orm) =>
    orm
      .update(miners)
      .set({ apiKeyHash: sha256('new') })
      .where(eq(miners.minerId, rotated)),
  );
  await drain();
  assert.equal(await hub.miners.get(revoked), undefined);
  const hash = await hub.miners.get(rotated);
  assert.ok(hash && hash.key_digest === undefined);
});

test('a price override that changed while a registration was under way is there after the drain', async () => {
  const [set, lifted, changed] = [
    await registerMiner(hub),
    await registerMiner(hub),
    await registerMiner(hub),
  ];
  await drain();
  await putOverride(hub, lifted, { price: '9', expiresAt: null });
  await putOverride(hub, changed, { price: '9', expiresAt: null });
  const ends = new Date(Date.now() + 3_600_000);
  for (const id of [set, lifted, changed]) {
    await hub.miners.remove(id, 'test');
    const vouched = await authorizeMiner(hub, id, sha256(`key of ${id}`));
    assert.ok(vouched.status === 'ok');
    if (id === lifted) await deleteOverride(hub, id);
    else await putOverride(hub, id, { price: '0.25', expiresAt: id === set ? null : ends });
    await hub.miners.register({
      minerId: id,
      keyDigest: sha256(`key of ${id}`),
      sessionDigest: sha256('late'),
      profile: profileOf(),
      durable: vouched.durable,
    });
  }
  await drain();
  assert.equal((await hub.miners.get(set))?.price, '0.25');
  assert.equal((await hub.miners.get(lifted))?.price, '0.5');
  const hash = await hub.miners.get(changed);
  assert.equal(hash?.price, '0.25');
  assert.equal(hash?.price_override_until_ms, String(ends.getTime()));
});

test('an override that is overtaken on its way to the registry does not undo the newer one', async () => {
  const id = await registerMiner(hub);
  let overtaken = false;
  const setPriceOverride: typeof hub.miners.setPriceOverride = async (...override) => {
    if (!overtaken) {
      overtaken = true;
      await putOverride(hub, id, { price: '0.2', expiresAt: null });
    }
    return hub.miners.setPriceOverride(...override);
  };
  await putOverride({ db: hub.db, miners: { setPriceOverride } }, id, { price: '0.1', expiresAt: null });
  assert.equal((await readOverrides(hub.db, [id])).get(id)?.price, '0.2');
  assert.equal((await hub.miners.get(id))?.price, '0.2');
});

test('the status of the miners that beat is flushed; nobody else is touched', async () => {
  const flush = { redis: hub.redis, prefix: h.prefix, db: hub.db };
  const ids = await Promise.all(Array.from({ length: 25 }, () => registerMiner(hub)));
  const gone = await registerMiner(hub);
  await flushStatus(flush, 0, 10, 10_000);
  for (const [i, id] of ids.entries()) {
    await beat(hub, id, {
      queue_len: i % 4,
      busy: i % 2 === 0,
      avg_latency_ms: 10.5 + i,
      temp_c: 60,
      mem_free_gb: 3,
    });
  }
  await beat(hub, gone);
  await hub.redis.del(keys.miner(shard, gone));
  assert.equal(await flushStatus(flush, 0, 10, 10_000), 25);
  assert.equal(await hub.redis.scard(keys.changed(shard)), 0);
  const id = ids[3] as string;
  const [status] = await hub.db.run((orm) =>
    orm.select().from(minerStatus).where(eq(minerStatus.minerId, id)),
  );
  const seenMs = Number((await hub.miners.get(id))?.last_seen_ms);
  assert.deepEqual(status, {
    minerId: id,
    queueLen: 3,
    busy: false,
    avgLatencyMs: 13.5,
    tempC: 60,
    memFreeGb: 3,
    updatedAt: new Date(seenMs),
  });
  assert.equal((await rowOf(id)).lastSeenAt?.getTime(), seenMs);
});

test('a flush that Postgres does not take is put back', async () => {
  const id = await registerMiner(hub);
  const db = connectDatabase({ ...hub.config, db_dsn: 'postgresql://nobody@127.0.0.1:1/none' }, 'test');
  h.cleanup(() => db.close(0));
  const flush = { redis: hub.redis, prefix: h.prefix, db };
  await assert.rejects(flushStatus(flush, 0, 1000, 10_000));
  assert.equal(await hub.redis.sismember(keys.changed(shard), id), 1);
});
