import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { asc, eq } from 'drizzle-orm';
import postgresJs from 'postgres';
import type { HubDeps } from '../../src/hub/deps.ts';
import { miners } from '../../src/hub/miners/tables.ts';
import { type FeedbackInput, recordFeedback } from '../../src/hub/trust/feedback.ts';
import { feedback } from '../../src/hub/trust/tables.ts';
import { stepTrust, TRUST_PRIOR, type TrustState } from '../../src/hub/trust/trust.ts';
import { keys, shardOf, shardPrefix } from '../../src/platform/keys.ts';
import { migrateDatabase } from '../../src/platform/migrate.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { openHub, registerMiner, sha256, uniqueId } from './fleet.ts';

/**
 * Feedback and price changes keep coming while the worker is killed and Postgres goes and comes back. In the
 * end Postgres must hold all that was acknowledged, once, and agree with the registry.
 */

const h = await harness();
const postgres = await h.privatePostgres();
await migrateDatabase(postgres.dsn);
await keepCommits(postgres.dsn);

const SHARDS = 3;
const MINERS = 8;
const SETTINGS = {
  DB_DSN: postgres.dsn,
  REDIS_SHARDS: String(SHARDS),
  SESSION_TTL_SEC: '600',
  STATUS_FLUSH_SEC: '1',
  DB_CONNECT_TIMEOUT_SEC: '1',
};

const OUTCOMES: FeedbackInput['outcome'][] = ['completed', 'failed', 'accepted', 'rejected'];

/** What a coordinator and the miners were told is done. */
interface Acknowledged {
  /** job|outcome by miner. */
  readonly feedback: Map<string, Set<string>>;
  /** The last price each miner set. */
  readonly prices: Map<string, string>;
  journaled: number;
}

async function keepReporting(hub: HubDeps, ids: string[], done: Acknowledged, stopped: AbortSignal) {
  for (let i = 0; !stopped.aborted; i++) {
    const minerId = ids[i % ids.length] as string;
    const input: FeedbackInput = {
      jobId: uniqueId('job'),
      minerId,
      outcome: OUTCOMES[Math.floor(i / ids.length) % OUTCOMES.length] as FeedbackInput['outcome'],
      latencyMs: i % 500,
      failCode: i % 5 === 0 ? 'timeout' : null,
      tokensSpent: '0.00000001',
      reservationId: null,
    };
    const result = await recordFeedback(hub, input);
    assert.notEqual(result.status, 'unknown_miner');
    if (result.status === 'journaled') done.journaled += 1;
    done.feedback.get(minerId)?.add(`${input.jobId}|${input.outcome}`);
    // Some coordinators never trust an answer and say everything twice.
    if (i % 3 === 0) await recordFeedback(hub, input);
    if (i % 4 === 0) await changePrice(hub, minerId, i, done);
    await sleep(2);
  }
}

async function changePrice(hub: HubDeps, minerId: string, i: number, done: Acknowledged): Promise<void> {
  const price = `${i % 97}.${String(i % 1000).padStart(3, '0')}`;
  const credential = { kind: 'session', digest: sha256(`session of ${minerId}`) } as const;
  const { status } = await hub.miners.update(minerId, credential, {}, { base_price: price });
  assert.equal(status, 'ok');
  done.prices.set(minerId, price);
}

const startWorkerProcess = async (env: Record<string, string>) =>
  h.startProcess('src/bin/worker.ts', { env, ready: /worker is running/ });

async function journalLength(hub: HubDeps): Promise<number> {
  const lengths = Array.from({ length: SHARDS }, (_, shard) =>
    hub.redis.xlen(keys.journal(shardPrefix(hub.scripts.prefix, shard))),
  );
  return (await Promise.all(lengths)).reduce((total, length) => total + length, 0);
}

/**
 * Some entries of the journal are committed when the condition holds: the worker is in the middle of its
 * work.
 */
async function untilWorkerIsBusy(hub: HubDeps): Promise<void> {
  await waitFor(async () => (await hub.redis.zcard(`{${hub.scripts.prefix}:tasks}:durable:completed`)) > 0, {
    timeoutMs: 30_000,
    what: 'the worker has done a task',
  });
}

test('nothing is lost and nothing is written twice when worker and Postgres crash', async () => {
  const hub = await openHub(h, SETTINGS);
  const env = await h.env(SETTINGS);
  const ids = await Promise.all(Array.from({ length: MINERS }, () => registerMiner(hub)));
  assert.ok(new Set(ids.map((id) => shardOf(id, SHARDS))).size > 1, 'more than one shard is in play');
  const done: Acknowledged = {
    feedback: new Map(ids.map((id) => [id, new Set()])),
    prices: new Map(),
    journaled: 0,
  };
  const stopped = new AbortController();
  const reporting = [
    keepReporting(hub, ids, done, stopped.signal),
    keepReporting(hub, ids, done, stopped.signal),
  ];

  let worker = await startWorkerProcess(env);
  await untilWorkerIsBusy(hub);
  for (let round = 0; round < 2; round++) {
    await postgres.kill();
    const journaled = done.journaled;
    await waitFor(() => done.journaled > journaled + 50, {
      timeoutMs: 30_000,
      what: 'feedback is journaled',
    });
    await postgres.start();
    // The journal is long now; the worker dies somewhere in it.
    const length = await journalLength(hub);
    await waitFor(async () => (await journalLength(hub)) < length, {
      timeoutMs: 30_000,
      what: 'the drain goes on',
    });
    worker.signal('SIGKILL');
    await worker.exited;
    worker = await startWorkerProcess(env);
  }
  stopped.abort();
  await Promise.all(reporting);

  await waitFor(async () => (await journalLength(hub)) === 0, {
    timeoutMs: 60_000,
    what: 'the journal is empty',
  });
  await waitFor(async () => (await unapplied(hub)) === 0, {
    timeoutMs: 60_000,
    what: 'all feedback is applied',
  });
  await worker.stop();
  for (const id of ids) await checkMiner(hub, id, done);
  for (let shard = 0; shard < SHARDS; shard++) {
    const dead = keys.journalDead(shardPrefix(hub.scripts.prefix, shard));
    assert.equal(await hub.redis.xlen(dead), 0, 'no entry was put aside');
  }
});

/**
 * The private servers of tests are fast rather than safe: a killed one may forget what it had just committed.
 * Not here.
 */
async function keepCommits(dsn: string): Promise<void> {
  const sql = postgresJs(dsn, { max: 1 });
  const database = new URL(dsn).pathname.slice(1);
  await sql`alter database ${sql(database)} set synchronous_commit = on`;
  await sql.end();
}

const unapplied = (hub: HubDeps) =>
  hub.db.run(async (orm) => {
    const rows = await orm.select().from(feedback).where(eq(feedback.applied, false));
    return rows.length;
  });

async function checkMiner(hub: HubDeps, id: string, done: Acknowledged): Promise<void> {
  const [rows, row] = await hub.db.run(async (orm) => [
    await orm.select().from(feedback).where(eq(feedback.minerId, id)).orderBy(asc(feedback.seq)),
    (await orm.select().from(miners).where(eq(miners.minerId, id)))[0],
  ]);
  assert.ok(row);
  const stored = new Set(rows.map((entry) => `${entry.jobId}|${entry.outcome}`));
  const told = done.feedback.get(id) ?? new Set();
  assert.equal(stored.size, rows.length, 'nothing twice');
  assert.deepEqual(
    [...told].filter((key) => !stored.has(key)),
    [],
    'nothing lost',
  );
  assert.equal(stored.size, told.size, 'nothing that was never reported');
  assert.deepEqual(
    rows.map((entry) => entry.seq),
    rows.map((_, i) => i + 1),
    'one order, no gap',
  );
  let state: TrustState = { ...TRUST_PRIOR, atMs: null };
  for (const entry of rows) state = stepTrust(state, entry, entry.createdAt.getTime(), entry.halfLifeDays);
  const hash = await hub.miners.get(id);
  assert.deepEqual([row.trustAlpha, row.trustBeta], [state.alpha, state.beta]);
  assert.deepEqual([Number(hash?.alpha), Number(hash?.beta)], [state.alpha, state.beta]);
  assert.equal(Number(hash?.trust_seq), rows.length);
  const price = done.prices.get(id);
  if (price !== undefined) assert.equal(Number(row.basePrice), Number(price));
}
