import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { HubError } from '../../src/sdk/errors.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { type HubProcess, startHubProcess } from '../sdk/hub-process.ts';
import { profileOf } from '../sdk/profiles.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { runCli } from './run-cli.ts';

const MINER_API_KEY = 'key-of-the-reference-miner';

const h = await harness();
let hub: HubProcess;
let env: Record<string, string>;
let admin: HubClient;

before(async () => {
  hub = await startHubProcess(h);
  env = await h.env({ POOLHUB_URL: hub.url, MINER_API_KEY });
  admin = new HubClient({ urls: [hub.url], adminKey: TEST_SECRETS.ADMIN_API_KEY });
});

/** Starts a command that runs until it is stopped. */
const start = (args: string[], ready: RegExp) => h.startProcess('src/cli/poolhub.ts', { args, env, ready });

const isGone = (minerId: string) =>
  admin.getMiner(minerId).then(
    () => false,
    (error: HubError) => error.code === 'not_found',
  );

describe('miner', () => {
  for (const transport of ['ws', 'http']) {
    test(`registers, obeys, outlives a restart of the hub, drains and logs out (${transport})`, async () => {
      // Heartbeats every second: over HTTP a command comes with the answer to one.
      const settings = { SESSION_TTL_SEC: '3' };
      const own = await startHubProcess(h, settings);
      const id = `reference-${transport}`;
      const args = [
        'miner',
        '--id',
        id,
        '--url',
        own.url,
        '--tag',
        'old',
        '--transport',
        transport,
        '--json',
      ];
      const miner = await start(args, /"event":"connected"/);
      await admin.sendCommand(id, { name: 'update_tags', args: { tags: ['new'] } });
      await admin.sendCommand(id, { name: 'set_price_cap', args: { cap: '0.2' } });
      await admin.drain(id);
      const wait = { timeoutMs: 60_000 };
      await waitFor(async () => (await admin.getMiner(id)).pending_commands.length === 0, wait);
      const detail = await admin.getMiner(id);
      assert.deepEqual([detail.tags, detail.price, detail.draining], [['new'], '0.2', 'admin']);

      await own.process.stop();
      await waitFor(() => /"event":"interrupted"/.test(miner.output()), wait);
      await startHubProcess(h, { ...settings, POOLHUB_PORT: own.port });
      await waitFor(() => miner.output().match(/"event":"connected"/g)?.length === 2, wait);

      miner.signal('SIGTERM');
      assert.deepEqual(await miner.exited, { code: 0, signal: null });
      assert.match(miner.output(), /"event":"draining"[\s\S]*"event":"logged_out"/);
      assert.ok(await isGone(id));
      assert.doesNotMatch(miner.output(), /phs_|key-of-the-reference-miner/);
    });
  }

  test('ends with one line when its key is refused', async () => {
    await admin.createKey('refused');
    const { code, stderr } = await runCli(['miner', '--id', 'refused'], env);
    assert.equal(code, 1);
    assert.match(stderr, /^poolhub miner: .*\(unauthenticated, request .*\)\n$/);
  });

  test('ends when another registration takes over', async () => {
    const miner = await start(['miner', '--id', 'twin'], /connected/);
    await admin.register(profileOf('twin', { api_key: MINER_API_KEY }));
    assert.equal((await miner.exited).code, 1);
    assert.match(miner.output(), /took over/);
  });
});

describe('simulate', () => {
  for (const transport of ['ws', 'http']) {
    test(`beats at the asked rate over ${transport}, for the asked time, then logs out`, async () => {
      const args = ['--miners', '6', '--prefix', `sim-${transport}`, '--transport', transport];
      const { code, stdout, stderr } = await runCli(
        ['simulate', ...args, '--rate', '30', '--duration', '3', '--json'],
        env,
      );
      assert.equal(code, 0, stderr);
      const totals = JSON.parse(stdout);
      assert.equal(totals.registrations, 6);
      assert.equal(totals.lost, 0);
      // One heartbeat each at least, and never more than the rate allows for.
      assert.ok(totals.beats >= 6 && totals.beats <= 6 + 30 * 4, `${totals.beats} heartbeats`);
      assert.equal(totals.beat_latency.count, totals.beats);
      assert.match(stderr, /connected 6\/6/);
      assert.ok(await isGone(`sim-${transport}-000000`));
    });
  }

  test('ends at Ctrl-C with its totals; --stay leaves the miners to their leases', async () => {
    const args = ['simulate', '--miners', '3', '--prefix', 'stayer', '--rate', '15', '--stay'];
    const running = await start(args, /connected 3\/3/);
    running.signal('SIGINT');
    assert.deepEqual(await running.exited, { code: 0, signal: null });
    assert.match(running.output(), /3 registrations, \d+ heartbeats/);
    assert.equal(await isGone('stayer-000000'), false);
  });

  test('ends in good time when the hub is gone', async () => {
    const own = await startHubProcess(h);
    const args = ['simulate', '--miners', '150', '--prefix', 'left', '--rate', '30', '--url', own.url];
    const running = await start(args, /connected 150\/150/);
    await own.process.stop();
    await waitFor(() => /interrupted [1-9]/.test(running.output()), { timeoutMs: 60_000 });
    running.signal('SIGINT');
    assert.deepEqual(await running.exited, { code: 0, signal: null });
    assert.match(running.output(), /unreachable/);
  });

  test('goes on through a restart of the hub', async () => {
    const own = await startHubProcess(h);
    const args = [
      'simulate',
      '--miners',
      '4',
      '--prefix',
      'tough',
      '--rate',
      '40',
      '--url',
      own.url,
      '--json',
    ];
    const running = await start(args, /connected 4\/4/);
    await own.process.stop();
    await startHubProcess(h, { POOLHUB_PORT: own.port });
    const lastSeen = async () => (await admin.getMiner('tough-000000')).last_seen_at;
    const before = await lastSeen();
    await waitFor(async () => (await lastSeen()) > before, { timeoutMs: 60_000 });
    running.signal('SIGTERM');
    assert.equal((await running.exited).code, 0);
    assert.match(running.output(), /"closed_1012":4/);
  });

  test('with --enroll it works where enrollment is closed', async () => {
    const closed = await startHubProcess(h, { MINER_ENROLLMENT: 'closed' });
    const args = ['simulate', '--miners', '2', '--prefix', 'member', '--url', closed.url, '--duration', '1'];
    assert.equal((await runCli(args, env)).code, 1);
    const { code, stderr } = await runCli([...args, '--enroll'], env);
    assert.equal(code, 0, stderr);
  });
});

describe('seed', () => {
  test('broken off by Ctrl-C says how far it came', async () => {
    const slow = await startHubProcess(h, { RATE_LIMIT_REGISTER_PER_SEC: '2' });
    const args = ['seed', '--miners', '500', '--prefix', 'slow', '--url', slow.url, '--json'];
    const running = await start(args, /registered [1-9]\d* of 500/);
    running.signal('SIGINT');
    assert.deepEqual(await running.exited, { code: 1, signal: null });
    const totals = JSON.parse(
      running
        .output()
        .split('\n')
        .find((line) => line.startsWith('{')) ?? '',
    );
    assert.ok(totals.registered > 0 && totals.registered < 500);
  });
});

describe('demo', () => {
  test('gives jobs to miners until Ctrl-C, and leaves nothing behind', async () => {
    const args = ['demo', '--miners', '12', '--match-rate', '40', '--json'];
    const running = await start(args, /completed [1-9]/);
    running.signal('SIGINT');
    assert.deepEqual(await running.exited, { code: 0, signal: null });
    const totals = JSON.parse(
      running
        .output()
        .split('\n')
        .find((line) => line.startsWith('{')) ?? '',
    );
    assert.equal(totals.fleet.registrations, 12);
    assert.ok(totals.jobs.endings.completed > 0);
    assert.ok(totals.jobs.matches >= totals.jobs.endings.completed);
    assert.deepEqual(totals.jobs.errors, {});
    assert.ok(await isGone('demo-000000'));
    const { stdout, code } = await runCli(['registry', 'verify'], env);
    assert.equal(code, 0, stdout);
  });
});
