import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eq } from 'drizzle-orm';
import {
  authorizeMiner,
  createKey,
  digestKey,
  listKeys,
  revokeKey,
} from '../../src/hub/miners/enrollment.ts';
import { deleteOverride, putOverride, restoreOverrides } from '../../src/hub/miners/overrides.ts';
import { miners, priceOverrides } from '../../src/hub/miners/tables.ts';
import { harness } from '../support/harness.ts';
import { openHub, profileOf, registerMiner, sha256, uniqueId } from './fleet.ts';

const h = await harness();
const open = await openHub(h);
const closed = await openHub(h, { MINER_ENROLLMENT: 'closed' });

const digestOf = (apiKey: string) => digestKey(closed.config.api_key_pepper, apiKey);

test('a key is long, random, and stored only as a digest of the server key', async () => {
  const id = uniqueId('miner');
  const { api_key, created } = await createKey(closed, id);
  assert.match(api_key, /^phk_[A-Za-z0-9_-]{43}$/);
  assert.equal(created, true);
  const [row] = await closed.db.run((orm) => orm.select().from(miners).where(eq(miners.minerId, id)));
  assert.equal(row?.apiKeyHash, digestOf(api_key));
  assert.ok(!JSON.stringify(row).includes(api_key));
  assert.notEqual(digestKey('another pepper of the digests', api_key), digestOf(api_key));
});

test('closed: only the enrolled key registers, and a refusal changes nothing', async () => {
  const id = uniqueId('miner');
  assert.deepEqual(await authorizeMiner(closed, id, sha256('any')), { status: 'refused' });
  assert.deepEqual(await closed.db.run((orm) => orm.select().from(miners).where(eq(miners.minerId, id))), []);
  const { api_key } = await createKey(closed, id);
  assert.equal((await authorizeMiner(closed, id, digestOf(api_key))).status, 'ok');
  assert.equal((await authorizeMiner(closed, id, digestOf('phk_wrong'))).status, 'refused');
});

test('open: the first of many keys that come at once is bound, the others are refused', async () => {
  const id = uniqueId('miner');
  const digests = Array.from({ length: 10 }, (_, i) => sha256(`key ${i}`));
  const answers = await Promise.all(digests.map((digest) => authorizeMiner(open, id, digest)));
  const bound = digests.filter((_, i) => answers[i]?.status === 'ok');
  assert.equal(bound.length, 1);
  for (const digest of digests) {
    const { status } = await authorizeMiner(open, id, digest);
    assert.equal(status, digest === bound[0] ? 'ok' : 'refused');
  }
});

test('another key voids the first; the running session goes on', async () => {
  const id = uniqueId('miner');
  const first = await createKey(closed, id);
  const keyDigest = digestOf(first.api_key);
  const authorization = await authorizeMiner(closed, id, keyDigest);
  assert.ok(authorization.status === 'ok');
  const registration = { minerId: id, keyDigest, sessionDigest: sha256(id), profile: profileOf() };
  await closed.miners.register({ ...registration, durable: authorization.durable });

  const second = await createKey(closed, id);
  assert.equal(second.created, false);
  assert.deepEqual(await closed.miners.register(registration), { status: 'unknown_key' });
  assert.equal((await authorizeMiner(closed, id, keyDigest)).status, 'refused');
  assert.equal((await authorizeMiner(closed, id, digestOf(second.api_key))).status, 'ok');
  const beat = await closed.miners.heartbeat(id, { kind: 'session', digest: sha256(id) }, {});
  assert.equal(beat.status, 'ok');
});

test('a revoked miner is out of the registry and stays out, also with open enrollment', async () => {
  const id = await registerMiner(open);
  assert.equal(await revokeKey(open, id), true);
  assert.equal(await open.miners.get(id), undefined);
  assert.equal((await authorizeMiner(open, id, sha256(`key of ${id}`))).status, 'refused');
  assert.equal((await authorizeMiner(open, id, sha256('another'))).status, 'refused');
  assert.equal(await revokeKey(open, id), false);
  const { api_key } = await createKey(open, id);
  assert.equal((await authorizeMiner(open, id, digestOf(api_key))).status, 'ok');
});

test('keys are listed page by page without secrets', async () => {
  const lister = await openHub(h);
  const ids = Array.from({ length: 5 }, () => uniqueId('zz')).sort();
  for (const id of ids) await createKey(lister, id);
  await revokeKey(lister, ids[1] as string);
  const first = await listKeys(lister, { afterMinerId: 'zz', limit: 3 });
  const second = await listKeys(lister, { afterMinerId: first.at(-1)?.miner_id as string, limit: 3 });
  const listed = [...first, ...second];
  assert.deepEqual(
    listed.map((key) => key.miner_id),
    ids,
  );
  assert.deepEqual(
    listed.map((key) => key.active),
    [true, false, true, true, true],
  );
  assert.deepEqual(Object.keys(first[0] ?? {}), ['miner_id', 'active', 'key_created_at', 'key_revoked_at']);
});

test('a price override holds at once, survives the loss of the registry entry, and is lifted', async () => {
  const id = await registerMiner(open);
  const expiresAt = new Date(Date.now() + 3_600_000);
  assert.equal(await putOverride(open, id, { price: '0.12345678', expiresAt }), true);
  assert.equal((await open.miners.get(id))?.price, '0.12345678');

  await open.miners.remove(id, 'test');
  await registerMiner(open, id);
  const hash = await open.miners.get(id);
  assert.equal(hash?.price, '0.12345678');
  assert.equal(Number(hash?.price_override_until_ms), expiresAt.getTime());

  assert.equal(await deleteOverride(open, id), true);
  assert.equal((await open.miners.get(id))?.price, '0.5');
  assert.equal(await deleteOverride(open, id), false);
});

test('an override that has ended is not restored, one without an end is', async () => {
  const id = await registerMiner(open);
  const digest = sha256(`key of ${id}`);
  await putOverride(open, id, { price: '9', expiresAt: null });
  const standing = await authorizeMiner(open, id, digest);
  assert.equal(standing.status === 'ok' && standing.durable.priceOverride, '9');
  await open.db.run((orm) =>
    orm
      .update(priceOverrides)
      .set({ expiresAt: new Date(Date.now() - 1000) })
      .where(eq(priceOverrides.minerId, id)),
  );
  const ended = await authorizeMiner(open, id, digest);
  assert.equal(ended.status === 'ok' && ended.durable.priceOverride, '');
});

test('an override that the registry has lost is told to it again, and what it holds is left alone', async () => {
  const [lost, held] = [await registerMiner(open), await registerMiner(open)];
  const expiresAt = new Date(Date.now() + 3_600_000);
  for (const minerId of [lost, held]) await putOverride(open, minerId, { price: '0.75', expiresAt });
  await open.miners.setPriceOverride(lost, null); // as a master that took over before it had heard of it
  assert.deepEqual(await restoreOverrides(open, '', 5000), { after: '', told: 1 });
  for (const minerId of [lost, held]) assert.equal((await open.miners.get(minerId))?.price, '0.75');
  assert.deepEqual(await restoreOverrides(open, '', 5000), { after: '', told: 0 });
});

test('an override of a miner that nobody enrolled is refused', async () => {
  assert.equal(await putOverride(open, uniqueId('nobody'), { price: '1', expiresAt: null }), false);
});
