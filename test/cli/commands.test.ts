import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { type HubProcess, startHubProcess } from '../sdk/hub-process.ts';
import { profileOf } from '../sdk/profiles.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { runCli } from './run-cli.ts';

const h = await harness();
let hub: HubProcess;
let env: Record<string, string>;
let admin: HubClient;

before(async () => {
  hub = await startHubProcess(h);
  env = await h.env({ POOLHUB_URL: hub.url });
  admin = new HubClient({ urls: [hub.url], adminKey: TEST_SECRETS.ADMIN_API_KEY });
});

/** Runs a command that must succeed. @returns its standard output */
async function poolhub(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runCli(args, env);
  assert.equal(code, 0, stderr);
  return stdout;
}

const json = async (...args: string[]) => JSON.parse(await poolhub(...args, '--json'));

describe('keys', () => {
  test('create prints a key that works, once; another call another one', async () => {
    const key = (await poolhub('keys', 'create', 'keyed')).trim();
    await admin.register(profileOf('keyed', { api_key: key }));
    const again = await json('keys', 'create', 'keyed');
    assert.equal(again.created, false);
    await assert.rejects(admin.register(profileOf('keyed', { api_key: key })), { code: 'unauthenticated' });
    await admin.register(profileOf('keyed', { api_key: again.api_key }));
  });

  test('revoke voids the key and takes the miner out', async () => {
    const { api_key } = await json('keys', 'create', 'revoked');
    await admin.register(profileOf('revoked', { api_key }));
    await poolhub('keys', 'revoke', 'revoked');
    await assert.rejects(admin.getMiner('revoked'), { code: 'not_found' });
    await assert.rejects(admin.register(profileOf('revoked', { api_key })), { code: 'unauthenticated' });
    const { code, stderr } = await runCli(['keys', 'revoke', 'revoked'], env);
    assert.equal(code, 1);
    assert.match(stderr, /revoked has no key that works/);
  });

  test('list shows who is enrolled, and no key', async () => {
    await json('keys', 'create', 'listed');
    const lines = (await poolhub('keys', 'list', '--json')).trim().split('\n');
    const listed = lines.map((line) => JSON.parse(line)).find(({ miner_id }) => miner_id === 'listed');
    assert.equal(listed.active, true);
    const table = await poolhub('keys', 'list');
    assert.match(table, /^listed +active/m);
    assert.doesNotMatch(table + lines.join(), /phk_/);
  });
});

describe('seed', () => {
  test('registers the same fleet each time', async () => {
    const first = await json('seed', '--miners', '5', '--seed', '9', '--prefix', 'sown');
    assert.deepEqual([first.registered, first.created], [5, 5]);
    const second = await json('seed', '--miners', '5', '--seed', '9', '--prefix', 'sown');
    assert.deepEqual([second.registered, second.created], [5, 0]);
    assert.match(
      await poolhub('seed', '--miners', '1', '--seed', '9', '--prefix', 'sown'),
      /Registered 1 miner/,
    );
  });

  test('says what to do when its keys are refused', async () => {
    const { code, stderr } = await runCli(['seed', '--miners', '5', '--seed', '10', '--prefix', 'sown'], env);
    assert.equal(code, 1);
    assert.match(stderr, /--enroll/);
    await poolhub('seed', '--miners', '5', '--seed', '10', '--prefix', 'sown', '--enroll');
  });
});

describe('match', () => {
  before(async () => {
    await admin.register(profileOf('best', { capabilities: ['cli-only'], price_token_per_ksec: '0.1' }));
    await admin.register(profileOf('good', { capabilities: ['cli-only'], price_token_per_ksec: '0.4' }));
  });

  test('prints the candidates in order, with the reasons', async () => {
    const table = await poolhub('match', '--capability', 'cli-only', '--max-price', '0.5');
    const [headings = '', first = '', second = ''] = table.split('\n');
    assert.match(headings, /MINER +STATE +SCORE/);
    assert.match(first, /^1 +best +online .*cap=1\.0 • price=0\.8/);
    assert.match(second, /^2 +good +online/);
    assert.match(table, /2 of 2 that match, by the strategy balanced/);
  });

  test('holds places when asked to', async () => {
    const args = ['match', '--capability', 'cli-only', '--job-id', 'cli-job', '--reserve', '1'];
    const { candidates } = await json(...args);
    assert.ok(candidates[0].reservation_id);
    assert.match(await poolhub(...args), new RegExp(`RESERVATION\n1 .*${candidates[0].reservation_id}`));
  });

  test('says why there is no candidate', async () => {
    const text = await poolhub('match', '--capability', 'cli-only', '--min-vram-gb', '9000');
    assert.match(text, /^No candidate: .*min_vram_gb/);
  });

  test('counts clause by clause, and says what one miner fails', async () => {
    const text = await poolhub(
      'match',
      '--explain',
      '--capability',
      'cli-only',
      '--max-price',
      '0.2',
      '--why',
      'good',
    );
    assert.match(text, /max_price +\d+ +2/);
    assert.match(text, /^good fails max_price$/m);
    const { miner } = await json('match', '--capability', 'cli-only', '--why', 'good');
    assert.deepEqual(miner, { miner_id: 'good', fails: [] });
  });

  test('passes the hub’s refusal on, every path of it', async () => {
    const { code, stderr } = await runCli(['match', '--strategy', 'luckiest', '--max-price', 'cheap'], env);
    assert.equal(code, 1);
    assert.match(stderr, /hints\.max_price .*\(invalid, request /);
    assert.equal(stderr.trimEnd().split('\n').length, 1);
  });
});

describe('registry', () => {
  test('show prints the hash and the terms, and no digest', async () => {
    await admin.register(profileOf('shown', { tags: ['seen'] }));
    const { hash, terms, shard } = await json('registry', 'show', 'shown');
    assert.equal(shard, 0);
    assert.equal(hash.state, 'online');
    assert.deepEqual([hash.key_digest, hash.session], [undefined, undefined]);
    assert.ok(terms.every(({ set }: { set: boolean }) => set));
    assert.ok(terms.some(({ term }: { term: string }) => term === 'tag:seen'));
    assert.match(await poolhub('registry', 'show', 'shown'), /TERMS .*tag:seen/);
    const { code, stderr } = await runCli(['registry', 'show', 'nobody'], env);
    assert.deepEqual([code, /nobody is not in the registry/.test(stderr)], [1, true]);
  });

  test('verify finds what was broken, and rebuild mends it', async () => {
    const shard = shardPrefix(h.prefix, 0);
    await admin.register(profileOf('broken', { tags: ['fragile'] }));
    await poolhub('registry', 'verify');
    const slot = await h.redis.hget(keys.miner(shard, 'broken'), 'slot');
    await h.redis.setbit(`${shard}ix:tag:fragile`, Number(slot), 0);

    assert.match(await poolhub('registry', 'show', 'broken'), /^LOST +tag:fragile$/m);
    const found = await runCli(['registry', 'verify'], env);
    assert.equal(found.code, 1);
    assert.match(found.stdout, /lost bit/);
    const report = await runCli(['registry', 'verify', '--json'], env);
    assert.ok(JSON.parse(report.stdout).counts['lost bit'] >= 1);
    assert.equal((await json('registry', 'rebuild')).left, 0);
    await poolhub('registry', 'verify');
  });
});

describe('a store that is away is one line and exit code 1', () => {
  const NOWHERE = '127.0.0.1:1';
  const cases = [
    [
      'keys list',
      { DB_DSN: `postgresql://poolhub:secret@${NOWHERE}/poolhub` },
      /a store cannot be reached .*ECONNREFUSED/,
    ],
    ['registry verify', { REDIS_URL: `redis://:secret@${NOWHERE}` }, /Redis did not answer/],
  ] as const;
  for (const [args, settings, why] of cases) {
    test(args, async () => {
      const { code, stderr } = await runCli(args.split(' '), { ...env, ...settings });
      assert.equal(code, 1);
      assert.match(stderr, why);
      assert.equal(stderr.trimEnd().split('\n').length, 1);
      assert.doesNotMatch(stderr, /secret/);
    });
  }
});

test('migrate may run on a database that is at its newest', async () => {
  assert.match(await poolhub('migrate'), /newest schema/);
});

test('secrets of the environment may be lists, the newest first', async () => {
  const rotating = {
    ...env,
    COORDINATOR_SHARED_SECRET: `${TEST_SECRETS.COORDINATOR_SHARED_SECRET}, old-one`,
  };
  assert.equal((await runCli(['match'], rotating)).code, 0);
});

test('the hub is found by its own settings', async () => {
  const { POOLHUB_URL: _, ...bare } = env;
  const { code, stderr } = await runCli(['match'], { ...bare, POOLHUB_PORT: hub.port });
  assert.equal(code, 0, stderr);
});
