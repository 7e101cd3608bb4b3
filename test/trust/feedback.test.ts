import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asc, eq } from 'drizzle-orm';
import type { HubDeps } from '../../src/hub/deps.ts';
import { ReservationStore } from '../../src/hub/matching/reservations.ts';
import type { Found } from '../../src/hub/matching/types.ts';
import { authorizeMiner } from '../../src/hub/miners/enrollment.ts';
import { miners } from '../../src/hub/miners/tables.ts';
import { applyUnapplied, type FeedbackInput, recordFeedback } from '../../src/hub/trust/feedback.ts';
import { feedback } from '../../src/hub/trust/tables.ts';
import { stepTrust, TRUST_PRIOR, type TrustState } from '../../src/hub/trust/trust.ts';
import { connectDatabase } from '../../src/platform/db.ts';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { openHub, registerMiner, sha256, uniqueId } from '../durable/fleet.ts';
import { harness } from '../support/harness.ts';

const h = await harness();
const hub = await openHub(h);
const shard = shardPrefix(h.prefix, 0);

function report(minerId: string, outcome: FeedbackInput['outcome'], more: Partial<FeedbackInput> = {}) {
  return {
    jobId: uniqueId('job'),
    minerId,
    outcome,
    latencyMs: null,
    failCode: null,
    tokensSpent: null,
    reservationId: null,
    ...more,
  } satisfies FeedbackInput;
}

const rowOf = (minerId: string) =>
  hub.db.run(async (orm) => {
    const [row] = await orm.select().from(miners).where(eq(miners.minerId, minerId));
    assert.ok(row);
    return row;
  });

const feedbackOf = (minerId: string) =>
  hub.db.run((orm) =>
    orm.select().from(feedback).where(eq(feedback.minerId, minerId)).orderBy(asc(feedback.seq)),
  );

async function hashOf(minerId: string): Promise<Record<string, string>> {
  const hash = await hub.miners.get(minerId);
  assert.ok(hash);
  return hash;
}

/** A hub whose Postgres refuses every connection. */
async function withoutPostgres(): Promise<HubDeps> {
  const settings = { ...hub.config, db_dsn: 'postgresql://nobody@127.0.0.1:1/none' };
  const db = connectDatabase(settings, 'test');
  h.cleanup(() => db.close(0));
  return { ...hub, db };
}

test('completed raises trust in Postgres and in the registry', async () => {
  const id = await registerMiner(hub);
  const before = await hashOf(id);
  assert.equal(before.trust, '0.5');
  assert.deepEqual(await recordFeedback(hub, report(id, 'completed', { tokensSpent: '1.25' })), {
    status: 'ok',
    trust_score: 0.6,
    duplicate: false,
  });
  const after = await hashOf(id);
  assert.deepEqual([after.alpha, after.beta, after.trust, after.trust_seq], ['3', '2', '0.6', '1']);
  assert.notEqual(after.bins, before.bins, 'the score index moved');
  const row = await rowOf(id);
  assert.deepEqual([row.trustAlpha, row.trustBeta, row.trustScore, row.trustSeq], [3, 2, 0.6, 1]);
  const [stored] = await feedbackOf(id);
  assert.equal(stored?.applied, true);
  assert.equal(stored?.tokensSpent, '1.25000000');
});

test('the same job, miner and outcome counts once, however often and at once it is reported', async () => {
  const id = await registerMiner(hub);
  const same = report(id, 'failed');
  const results = await Promise.all(Array.from({ length: 8 }, () => recordFeedback(hub, same)));
  const fresh = results.filter((result) => result.status === 'ok' && !result.duplicate);
  assert.equal(fresh.length, 1);
  for (const result of results) {
    assert.equal(result.status, 'ok');
    assert.equal(result.status === 'ok' && result.trust_score, 0.4);
  }
  assert.equal((await feedbackOf(id)).length, 1);
  assert.equal((await hashOf(id)).trust_seq, '1');
});

test('a number that is taken is an error, not the same feedback again', async () => {
  const id = await registerMiner(hub);
  await recordFeedback(hub, report(id, 'completed'));
  await hub.db.run((orm) => orm.update(miners).set({ trustSeq: 0 }).where(eq(miners.minerId, id)));
  await assert.rejects(recordFeedback(hub, report(id, 'completed')));
  assert.equal((await feedbackOf(id)).length, 1);
});

test('different outcomes of one job are different feedback', async () => {
  const id = await registerMiner(hub);
  const jobId = uniqueId('job');
  await recordFeedback(hub, report(id, 'accepted', { jobId }));
  await recordFeedback(hub, report(id, 'completed', { jobId }));
  assert.equal((await feedbackOf(id)).length, 2);
});

test('an unknown miner is told', async () => {
  assert.deepEqual(await recordFeedback(hub, report(uniqueId('nobody'), 'completed')), {
    status: 'unknown_miner',
  });
});

test('observed latency counts from the third completed job', async () => {
  const id = await registerMiner(hub);
  for (const latencyMs of [100, 200]) await recordFeedback(hub, report(id, 'completed', { latencyMs }));
  assert.ok(!(await hashOf(id)).latency_ms);
  await recordFeedback(hub, report(id, 'failed', { latencyMs: 9999 }));
  await recordFeedback(hub, report(id, 'completed', { latencyMs: 300 }));
  const hash = await hashOf(id);
  assert.equal(hash.observed_samples, '3');
  assert.equal(Number(hash.latency_ms), 120 + 0.2 * (300 - 120));
});

test('stored feedback, replayed, gives the alpha and beta of the row and of the registry', async () => {
  const id = await registerMiner(hub);
  const outcomes = ['completed', 'failed', 'accepted', 'rejected', 'completed'] as const;
  const reports = Array.from({ length: 30 }, (_, i) =>
    report(id, outcomes[i % outcomes.length] as FeedbackInput['outcome'], {
      latencyMs: i * 10,
      failCode: i % 3 === 0 ? 'timeout' : 'oom',
    }),
  );
  for (let i = 0; i < reports.length; i += 5) {
    const results = await Promise.all(reports.slice(i, i + 5).map((input) => recordFeedback(hub, input)));
    assert.ok(results.every((result) => result.status === 'ok'));
  }
  const rows = await feedbackOf(id);
  assert.deepEqual(
    rows.map((row) => row.seq),
    reports.map((_, i) => i + 1),
  );
  let state: TrustState = { ...TRUST_PRIOR, atMs: null };
  for (const row of rows) state = stepTrust(state, row, row.createdAt.getTime(), row.halfLifeDays);
  const row = await rowOf(id);
  assert.deepEqual([row.trustAlpha, row.trustBeta, row.trustSeq], [state.alpha, state.beta, rows.length]);
  const hash = await hashOf(id);
  assert.deepEqual([Number(hash.alpha), Number(hash.beta)], [state.alpha, state.beta]);
  assert.equal(Number(hash.trust), state.alpha / (state.alpha + state.beta));
});

test('with Postgres away feedback is journaled', async () => {
  const id = await registerMiner(hub);
  const away = await withoutPostgres();
  const input = report(id, 'completed', { latencyMs: 12 });
  assert.deepEqual(await recordFeedback(away, input), { status: 'journaled' });
  const entries = await hub.redis.xrange(keys.journal(shard), '-', '+');
  const mine = entries.map(([, fields]) => fields).filter((fields) => fields[3]?.includes(input.jobId));
  assert.equal(mine.length, 1);
  assert.equal(mine[0]?.[1], 'feedback');
  assert.equal((await hashOf(id)).trust, '0.5', 'trust waits for the commit');
});

test('with Postgres away and the journal full, feedback is refused', async () => {
  const small = await openHub(h, { JOURNAL_MAX_ENTRIES: '100', REDIS_PREFIX: `${h.prefix}-full` });
  const away = { ...small, db: (await withoutPostgres()).db };
  const journal = keys.journal(shardPrefix(`${h.prefix}-full`, 0));
  for (let i = 0; i < 100; i++) await small.redis.xadd(journal, '*', 'type', 'feedback', 'data', '{}');
  await assert.rejects(recordFeedback(away, report('any', 'completed')), { code: 'unavailable' });
  assert.equal(await small.redis.xlen(journal), 100);
});

test('a reservation is ended at once, also while Postgres is away', async () => {
  const away = await withoutPostgres();
  for (const [deps, outcome, queueLen, state] of [
    [hub, 'accepted', '1', 'confirmed'],
    [hub, 'rejected', '0', 'released'],
    [away, 'accepted', '1', 'confirmed'],
    [away, 'completed', '0', 'released'],
  ] as const) {
    const id = await registerMiner(hub);
    const reservationId = await hold(id);
    await recordFeedback(deps, report(id, outcome, { reservationId }));
    const hash = await hashOf(id);
    assert.deepEqual([hash.reserved, hash.queue_len], ['0', queueLen], `${outcome}`);
    assert.equal(await hub.redis.hget(keys.reservation(shard, reservationId), 'state'), state);
  }
});

test('a reservation of another miner is left alone', async () => {
  const [mine, other] = [await registerMiner(hub), await registerMiner(hub)];
  const reservationId = await hold(other);
  await recordFeedback(hub, report(mine, 'completed', { reservationId }));
  assert.equal((await hashOf(other)).reserved, '1');
});

test('rows that Redis never heard of are applied later, by whoever asks', async () => {
  const id = await registerMiner(hub);
  const at = new Date(Date.now() - 60_000);
  await hub.db.run(async (orm) => {
    await orm.insert(feedback).values({
      ...report(id, 'completed'),
      seq: 1,
      alphaAdded: 1,
      betaAdded: 0,
      halfLifeDays: 7,
      createdAt: at,
    });
    await orm
      .update(miners)
      .set({ trustAlpha: 3, trustScore: 0.6, trustAt: at, trustSeq: 1 })
      .where(eq(miners.minerId, id));
  });
  await Promise.all([applyUnapplied(hub, 100), applyUnapplied(hub, 100)]);
  assert.equal((await hashOf(id)).trust, '0.6');
  assert.equal((await feedbackOf(id))[0]?.applied, true);
  assert.equal(await applyUnapplied(hub, 100), 0);
});

test('trust comes back from Postgres when the registry has forgotten the miner', async () => {
  const id = await registerMiner(hub);
  await recordFeedback(hub, report(id, 'completed', { latencyMs: 50 }));
  await hub.miners.remove(id, 'test');
  await recordFeedback(hub, report(id, 'completed', { latencyMs: 50 }));
  const authorization = await authorizeMiner(hub, id, sha256(`key of ${id}`));
  assert.equal(authorization.status, 'ok');
  await registerMiner(hub, id);
  const hash = await hashOf(id);
  const row = await rowOf(id);
  assert.ok(row.trustAlpha > 3.99, 'two jobs were completed');
  assert.deepEqual([Number(hash.alpha), Number(hash.trust)], [row.trustAlpha, row.trustScore]);
  assert.deepEqual([hash.trust_seq, hash.observed_samples], ['2', '2']);
});

/** Holds a place on a miner for some job. */
async function hold(minerId: string): Promise<string> {
  const found: Found = {
    minerId,
    shard: 0,
    degraded: false,
    score: 0.5,
    capFit: 1,
    priceNorm: 1,
    latencyNorm: 0.5,
    trust: 0.5,
    loadNorm: 1,
    turn: 0,
    addr: '10.0.0.1:9000',
    proto: 'grpc',
    price: '0.5',
    etaMs: null,
  };
  const reservations = new ReservationStore(hub.scripts, hub.redis, hub.homes);
  const [held] = await reservations.reserve(uniqueId('job'), { count: 1, ttlMs: 60_000 }, async (exclude) =>
    exclude.includes(minerId) ? [] : [found],
  );
  assert.ok(held);
  assert.equal((await hashOf(minerId)).reserved, '1');
  return held.reservationId;
}
