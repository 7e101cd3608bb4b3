import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { settlementRoutes } from '../../src/coordinator/settlement/routes.ts';
import { countOpen } from '../../src/coordinator/settlement/store.ts';
import { harness } from '../support/harness.ts';
import { CLIENT, OPERATOR, openRoutes } from './settlement-app.ts';
import { complete, insertRunning, jobOf } from './settlement-world.ts';

const h = await harness();
const app = await openRoutes(
  h,
  { SETTLEMENT_DRIVER: 'rpc', SETTLEMENT_RPC_URL: 'http://127.0.0.1:9' },
  settlementRoutes,
);
const headers = OPERATOR;
const path = '/v1/admin/settlements';

async function owe(paymentAmount: string): Promise<string> {
  const job = jobOf({ paymentAmount });
  await app.db.run(async (orm) => {
    await insertRunning(orm, job);
    await complete(orm, app.money, job);
  });
  return job.jobId;
}

test('settlements are listed in pages, the newest first, each once', async () => {
  const jobIds: string[] = [];
  for (const amount of ['10', '20', '0', '0.5']) jobIds.push(await owe(amount));
  // Rows of the same moment are told apart by their job.
  await app.db.run((orm) =>
    orm.execute(sql`update coordinator.settlements set created_at = date_trunc('milliseconds', now())`),
  );
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const more: string = cursor === undefined ? '' : `&cursor=${cursor}`;
    const { json } = await app.call('GET', `${path}?limit=1${more}`, { headers });
    assert.equal(json.items.length, 1);
    seen.push(json.items[0].job_id);
    cursor = json.next_cursor;
  } while (cursor !== undefined);
  assert.deepEqual(seen, [...jobIds].sort().reverse());

  const { json } = await app.call('GET', `${path}?state=kept`, { headers });
  assert.deepEqual(
    json.items.map((item: Record<string, unknown>) => [item.job_id, item.amount, item.due_at]),
    [[jobIds[2], '0', null]],
  );
  const { json: pending } = await app.call('GET', `${path}?state=pending`, { headers });
  const amounts = pending.items.map(({ amount }: { amount: string }) => amount);
  assert.deepEqual(amounts.sort(), ['0.5', '10', '20']);
});

test('what is not settled is counted by state', async () => {
  const before = await app.db.run(countOpen);
  await owe('3');
  const rejected = await owe('3');
  await app.db.run((orm) =>
    orm.execute(sql`update coordinator.settlements set state = 'rejected' where job_id = ${rejected}`),
  );
  await owe('0');
  const { pending, rejected: refused, escrowed } = await app.db.run(countOpen);
  assert.deepEqual([pending, refused, escrowed], [before.pending + 1, before.rejected + 1, before.escrowed]);
});

test('what is pending can be refunded, what is kept or unknown cannot', async () => {
  const [owed, kept] = [await owe('1'), await owe('0')];
  const post = (jobId: string, verb: string) => app.call('POST', `${path}/${jobId}/${verb}`, { headers });
  assert.deepEqual((await post(owed, 'release')).json.goal, 'release');
  const refunded = await post(owed, 'refund');
  assert.deepEqual([refunded.status, refunded.json.goal, refunded.json.state], [200, 'refund', 'pending']);
  for (const verb of ['refund', 'release']) assert.equal((await post(kept, verb)).status, 409);
  assert.equal((await post('f'.repeat(32), 'refund')).status, 404);
  await app.db.run((orm) =>
    orm.execute(sql`update coordinator.settlements set state = 'rejected' where job_id = ${owed}`),
  );
  assert.deepEqual((await post(owed, 'release')).json.goal, 'release');
});

test('only administrators may, and only with what is asked for', async () => {
  assert.equal((await app.call('GET', path)).status, 401);
  assert.equal((await app.call('GET', path, { headers: CLIENT })).status, 403);
  for (const bad of ['state=x', 'limit=0', 'cursor=x', 'cursor=1.x', 'y=1'])
    assert.equal((await app.call('GET', `${path}?${bad}`, { headers })).status, 422, bad);
  assert.equal((await app.call('POST', `${path}/nope/refund`, { headers })).status, 404);
});
