import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { HubError } from '../../src/sdk/errors.ts';
import { SocketClosedError } from '../../src/sdk/heartbeat-socket.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { MinerSession, type MinerSessionOptions } from '../../src/sdk/miner-session.ts';
import type { PendingCommand } from '../../src/sdk/types.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { type HubProcess, startHubProcess } from './hub-process.ts';
import { profileOf } from './profiles.ts';

const h = await harness();
let hub: HubProcess;
let admin: HubClient;

const clientOf = (...urls: string[]) => new HubClient({ urls, adminKey: TEST_SECRETS.ADMIN_API_KEY });

before(async () => {
  hub = await startHubProcess(h);
  admin = clientOf(hub.url);
});

interface Watched {
  readonly session: MinerSession;
  readonly end: Promise<string>;
  readonly seen: { registered: number; beats: number; commands: PendingCommand[]; troubles: Error[] };
}

/** Starts a session of a miner, and counts what happens in it; it ends with the file. */
function live(minerId: string, options: Partial<MinerSessionOptions> = {}): Watched {
  const seen: Watched['seen'] = { registered: 0, beats: 0, commands: [], troubles: [] };
  const session = new MinerSession({
    client: admin,
    profile: () => profileOf(minerId),
    readings: () => ({ queue_len: 1 }),
    transport: 'ws',
    onCommand: () => {},
    intervalMs: 100,
    ...options,
  });
  session.on('registered', () => (seen.registered += 1));
  session.on('beat', () => (seen.beats += 1));
  session.on('command', (command) => seen.commands.push(command));
  session.on('interrupted', (error) => seen.troubles.push(error));
  const end = session.run();
  // A test that expects the refusal awaits it; the others fail by their conditions.
  end.catch(() => {});
  h.cleanup(async () => {
    session.stop();
    await end.catch(() => {});
  });
  return { session, end, seen };
}

/** Waits until a few more heartbeats were answered. */
async function beatsOn({ seen }: Watched): Promise<void> {
  const before = seen.beats;
  await waitFor(() => seen.beats >= before + 3, { timeoutMs: 30_000, what: 'three more heartbeats' });
}

const closedWith = (code: number) => (error: Error) =>
  error instanceof SocketClosedError && error.closeCode === code;

for (const transport of ['ws', 'http'] as const) {
  describe(`over ${transport}`, () => {
    test('beats, and its readings arrive', async () => {
      const miner = live(`beat-${transport}`, { transport });
      await beatsOn(miner);
      assert.equal((await admin.getMiner(`beat-${transport}`)).queue_len, 1);
    });

    test('follows the interval of the server when it is given none', async () => {
      const miner = live(`calm-${transport}`, { transport, intervalMs: undefined });
      await waitFor(() => miner.seen.beats === 1);
      await waitFor(async () => (await admin.getMiner(`calm-${transport}`)).queue_len === 1);
      assert.equal(miner.seen.beats, 1);
    });

    test('has commands carried out once, in order, and acknowledges them', async () => {
      const id = `obey-${transport}`;
      const miner = live(id, { transport });
      await beatsOn(miner);
      for (const n of [1, 2, 3]) await admin.sendCommand(id, { name: 'custom.step', args: { n } });
      await waitFor(async () => (await admin.getMiner(id)).pending_commands.length === 0);
      assert.deepEqual(
        miner.seen.commands.map(({ args }) => args.n),
        [1, 2, 3],
      );
    });
  });

  describe(`over ${transport}, when something goes wrong`, () => {
    test('registers again when its session is gone', async () => {
      const id = `reborn-${transport}`;
      const miner = live(id, { transport });
      await beatsOn(miner);
      await admin.removeMiner(id);
      await waitFor(() => miner.seen.registered === 2, { timeoutMs: 30_000 });
      await beatsOn(miner);
    });

    test('comes back to a hub that was killed and started again', async () => {
      const mortal = await startHubProcess(h);
      const id = `survivor-${transport}`;
      const client = new HubClient({ urls: [mortal.url], maxAttempts: 2 });
      const miner = live(id, { transport, client });
      await beatsOn(miner);
      mortal.process.signal('SIGKILL');
      await mortal.process.exited;
      await waitFor(() => miner.seen.troubles.length > 0);
      await startHubProcess(h, { POOLHUB_PORT: mortal.port });
      await beatsOn(miner);
      assert.equal(miner.seen.registered, 1, 'the session outlives the replica');
    });

    test('gets a command again whose handler failed', async () => {
      const id = `retry-${transport}`;
      // What is not acknowledged comes again after a lease.
      const quick = await startHubProcess(h, { SESSION_TTL_SEC: '3' });
      let attempts = 0;
      const miner = live(id, {
        transport,
        client: clientOf(quick.url),
        onCommand: () => {
          attempts += 1;
          if (attempts === 1) throw new Error('not now');
        },
      });
      const failures: unknown[] = [];
      miner.session.on('command_failed', (_command, error) => failures.push(error));
      await beatsOn(miner);
      await admin.sendCommand(id, { name: 'custom.flaky' });
      await waitFor(async () => (await admin.getMiner(id)).pending_commands.length === 0, {
        timeoutMs: 60_000,
      });
      assert.equal(attempts, 2);
      assert.equal(failures.length, 1);
    });

    test('ends when asked, and may log out then', async () => {
      const id = `leaver-${transport}`;
      const miner = live(id, { transport });
      await beatsOn(miner);
      miner.session.stop();
      assert.equal(await miner.end, 'stopped');
      await miner.session.logout();
      await assert.rejects(
        admin.getMiner(id),
        (error) => error instanceof HubError && error.code === 'not_found',
      );
    });

    test('gives up for good when its key is refused', async () => {
      const id = `stranger-${transport}`;
      await admin.createKey(id);
      const miner = live(id, { transport });
      await assert.rejects(
        miner.end,
        (error) => error instanceof HubError && error.code === 'unauthenticated',
      );
    });
  });
}

test('moves on to another replica when its own restarts', async () => {
  const first = await startHubProcess(h);
  const miner = live('mover', { client: clientOf(first.url, hub.url) });
  await beatsOn(miner);
  await first.process.stop();
  await beatsOn(miner);
  assert.ok(miner.seen.troubles.some(closedWith(1012)), `${miner.seen.troubles}`);
  assert.equal(miner.seen.registered, 1, 'the session is good on every replica');
});

test('gives way to another registration of the same miner', async () => {
  const miner = live('twin');
  await beatsOn(miner);
  await admin.register(profileOf('twin'));
  assert.equal(await miner.end, 'replaced');
});

test('stays away for a while when it beats too fast', async () => {
  const strict = await startHubProcess(h, { RATE_LIMIT_HEARTBEAT_PER_SEC: '1' });
  const miner = live('hasty', { client: clientOf(strict.url), intervalMs: 1 });
  await waitFor(() => miner.seen.troubles.some(closedWith(4429)), { timeoutMs: 30_000 });
  const before = miner.seen.beats;
  await waitFor(() => miner.seen.beats > before, { timeoutMs: 30_000 });
});

test('keeps its socket while Redis is away, and beats on when it is back', async () => {
  const redis = await h.privateRedis(['appendonly yes', 'appendfsync always']);
  const shaken = await startHubProcess(h, { REDIS_URL: redis.url });
  const miner = live('steady', { client: clientOf(shaken.url) });
  await beatsOn(miner);
  await redis.kill();
  await waitFor(() =>
    miner.seen.troubles.some((error) => error instanceof HubError && error.code === 'unavailable'),
  );
  await redis.start();
  await beatsOn(miner);
  assert.ok(
    !miner.seen.troubles.some((error) => error instanceof SocketClosedError),
    `${miner.seen.troubles}`,
  );
});

test('a stop is prompt while no hub can be reached', async () => {
  const gone = await startHubProcess(h);
  await gone.process.stop();
  const miner = live('lonely', { client: clientOf(gone.url) });
  await waitFor(() => miner.seen.troubles.length > 0, { timeoutMs: 30_000 });
  miner.session.stop();
  assert.equal(await miner.end, 'stopped');
});
