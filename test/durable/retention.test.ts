import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { sql } from 'drizzle-orm';
import type { HubDeps } from '../../src/hub/deps.ts';
import { authorizeMiner } from '../../src/hub/miners/enrollment.ts';
import { hubTasks } from '../../src/hub/tasks.ts';
import { recordFeedback } from '../../src/hub/trust/feedback.ts';
import { billedMiner, feedback, recordsOf, report } from '../billing/world.ts';
import { harness } from '../support/harness.ts';
import { openHub, registerMiner, sha256, uniqueId } from './fleet.ts';

const h = await harness();
const hub = await openHub(h, { FEEDBACK_RETENTION_DAYS: '30', MINER_RETENTION_DAYS: '20' });

async function retain(deps: HubDeps = hub, batch = 3): Promise<unknown> {
  const task = hubTasks({ ...deps, migrated: async () => {} }).find(({ name }) => name === 'hub-retain');
  return task?.run({ batch }, Date.now());
}

const run = (statement: ReturnType<typeof sql>) => hub.db.run((orm) => orm.execute(statement));

const jobsOf = async (minerId: string) =>
  (await run(sql`select job_id from poolhub.feedback where miner_id = ${minerId} order by id`)).map(
    ({ job_id }) => job_id,
  );

/** As if the feedback of a miner had come so many days ago. */
const age = (minerId: string, days: number) =>
  run(
    sql`update poolhub.feedback set created_at = now() - make_interval(days => ${days}) where miner_id = ${minerId}`,
  );

/** A miner that enrolled itself and was last seen so many days ago. */
async function silentFor(days: number): Promise<string> {
  const id = uniqueId('silent');
  const { status } = await authorizeMiner(hub, id, sha256(id));
  assert.equal(status, 'ok');
  await run(
    sql`update poolhub.miners set last_seen_at = now() - make_interval(days => ${days}) where miner_id = ${id}`,
  );
  return id;
}

const isKnown = async (minerId: string) =>
  (await run(sql`select from poolhub.miners where miner_id = ${minerId}`)).length === 1;

beforeEach(() => run(sql`truncate poolhub.miners, poolhub.usage_records cascade`));

test('feedback goes after its time, what is billed of it stays, and trust goes on', async () => {
  const ahead = await billedMiner(hub, { tenantId: 'tenant-r', gpuCount: 1 });
  await feedback(hub, ahead, 'failed'); // By a hub whose clock was wrong.
  await age(ahead, -9_000);
  const id = await billedMiner(hub, { tenantId: 'tenant-r', gpuCount: 1 });
  for (let n = 0; n < 4; n += 1) await feedback(hub, id, 'completed', { latencyMs: 3_600_000 });
  await feedback(hub, id, 'failed');
  await age(id, 31);
  const young = await feedback(hub, id, 'accepted');
  assert.deepEqual(await retain(), { feedback: 5, miners: 0 });
  assert.deepEqual(await jobsOf(id), [young.jobId]);
  assert.equal((await recordsOf(hub, id)).length, 9);
  const again = await recordFeedback(hub, young);
  assert.ok(again.status === 'ok' && again.duplicate);
  assert.equal(again.trust_score.toFixed(6), (6 / 9).toFixed(6));
  assert.deepEqual(await retain(), { feedback: 0, miners: 0 });
  await age(id, 31);
  assert.deepEqual(await retain(), { feedback: 1, miners: 0 });
});

test('feedback stays that the registry does not know of, or whose usage has no tenant yet', async () => {
  const unapplied = await registerMiner(hub);
  await feedback(hub, unapplied, 'failed');
  await run(sql`update poolhub.feedback set applied = false where miner_id = ${unapplied}`);
  const early = await registerMiner(hub);
  await feedback(hub, early, 'completed', { latencyMs: 3_600_000 });
  const other = await registerMiner(hub);
  await feedback(hub, other, 'failed');
  for (const id of [unapplied, early, other]) await age(id, 31);
  assert.deepEqual(await retain(hub, 1), { feedback: 1, miners: 0 });
  for (const [id, count] of [
    [unapplied, 1],
    [early, 1],
    [other, 0],
  ] as const)
    assert.equal((await jobsOf(id)).length, count);
  await run(sql`update poolhub.feedback set applied = true`);
  await run(sql`update poolhub.usage_records set tenant_id = 'someone' where miner_id = ${early}`);
  assert.deepEqual(await retain(), { feedback: 2, miners: 0 });
});

test('who enrolled itself and stays away is forgotten, and may enrol anew', async () => {
  const silent = await Promise.all(Array.from({ length: 4 }, () => silentFor(21)));
  const [seen, worked, revoked, priced, back] = [
    await silentFor(19),
    await silentFor(21),
    await silentFor(21),
    await silentFor(21),
    await silentFor(21),
  ];
  await feedback(hub, worked, 'failed');
  await run(sql`update poolhub.miners set api_key_hash = null where miner_id = ${revoked}`);
  await run(sql`insert into poolhub.price_overrides (miner_id, price) values (${priced}, 1)`);
  assert.equal((await authorizeMiner(hub, back, sha256('another key'))).status, 'refused');
  assert.equal((await authorizeMiner(hub, back, sha256(back))).status, 'ok');
  await run(sql`insert into poolhub.sla_miners (miner_id, collected_at, live_at, uptime_ms, outage_ms, feedback_seq, places)
    values (${silent[0]}, now(), now(), 0, 0, 7, 1)`);

  const closed = { ...hub, config: { ...hub.config, miner_enrollment: 'closed' as const } };
  assert.deepEqual(await retain(closed), { feedback: 0, miners: 0 });
  assert.deepEqual(await retain(), { feedback: 0, miners: 4 });
  for (const id of silent) assert.equal(await isKnown(id), false);
  for (const id of [seen, worked, revoked, priced, back]) assert.equal(await isKnown(id), true, id);
  assert.equal((await run(sql`select from poolhub.sla_miners where miner_id = ${silent[0]}`)).length, 0);
  const again = silent[0] as string;
  assert.equal((await authorizeMiner(hub, again, sha256('another key'))).status, 'ok');
  const refused = await authorizeMiner(hub, revoked, sha256(revoked));
  assert.equal(refused.status, 'refused');
});

test('a registration at the same moment is a sign of life', async () => {
  const id = await silentFor(21);
  await Promise.all([retain(), authorizeMiner(hub, id, sha256(id)), retain()]);
  assert.equal(await isKnown(id), true);
  assert.equal((await recordFeedback(hub, report(id, 'accepted'))).status, 'ok');
});
