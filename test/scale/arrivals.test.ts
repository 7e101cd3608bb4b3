import assert from 'node:assert/strict';
import { test } from 'node:test';
import { reconnectSpreadMs } from '../../src/hub/miners/socket.ts';
import { fleetOf } from '../support/fleets.ts';
import { harness } from '../support/harness.ts';
import { Random } from '../support/random.ts';
import { openWorld, resetWorld, type World, worldRedis } from '../support/registry-world.ts';

const h = await harness();
const connect = await worldRedis(h);

/** 50,000 miners and 5,000 heartbeats a second, or all of it a 25th. */
const SCALE = process.env.POOLHUB_LONG === '1' ? 1 : 25;
const MINERS = 50_000 / SCALE;
const TARGET_PER_SEC = 5_000 / SCALE;
const TICK_MS = 100;

const session = (id: string) => ({ kind: 'session', digest: `session of ${id}` }) as const;

async function enterAll(world: World, ids: readonly string[]): Promise<void> {
  const [miner] = fleetOf({ style: 'equal', size: 1, seed: 1 });
  assert.ok(miner);
  for (let n = 0; n < ids.length; n += 500) {
    await Promise.all(
      ids.slice(n, n + 500).map((minerId) =>
        world.miners.register({
          minerId,
          keyDigest: 'key',
          sessionDigest: session(minerId).digest,
          profile: miner.profile,
          durable: {
            alpha: 2,
            beta: 2,
            trustSeq: 0,
            observedLatencyMs: '',
            observedSamples: 0,
            priceOverride: '',
            priceOverrideUntilMs: '',
          },
        }),
      ),
    );
  }
}

/** Beats when the registry says, from a first time on. @returns heartbeats of each second */
async function arrivals(
  world: World,
  firstMs: ReadonlyMap<string, number>,
  seconds: number,
): Promise<number[]> {
  const startMs = world.nowMs;
  const ticks: string[][] = Array.from({ length: (seconds * 1000) / TICK_MS }, () => []);
  const due = (id: string, afterMs: number) => ticks[Math.ceil(afterMs / TICK_MS)]?.push(id);
  for (const [id, afterMs] of firstMs) due(id, afterMs);
  const curve = Array.from({ length: seconds }, () => 0);
  for (const [tick, ids] of ticks.entries()) {
    world.nowMs = startMs + tick * TICK_MS;
    const second = Math.floor((tick * TICK_MS) / 1000);
    curve[second] = (curve[second] ?? 0) + ids.length;
    await Promise.all(
      ids.map(async (id) => {
        const beat = await world.miners.heartbeat(id, session(id), { queue_len: 0 });
        assert.equal(beat.status, 'ok');
        due(id, tick * TICK_MS + (beat.status === 'ok' ? beat.nextHeartbeatMs : 0));
      }),
    );
  }
  return curve;
}

const most = (curve: readonly number[]) => Math.max(...curve);

test('after a restart of all replicas the miners return no faster than the target, and stay spread', async (t) => {
  const settings = { HEARTBEAT_TARGET_PER_SEC: String(TARGET_PER_SEC) };
  const world = await resetWorld(openWorld(await connect(0), { settings }));
  const ids = Array.from({ length: MINERS }, (_, n) => `m${n}`);
  await enterAll(world, ids);
  const random = new Random(2);
  // As src/sdk/miner-session.ts does when two replicas, with half of the sockets each, close with 1012: one after the other.
  const spreadMs = reconnectSpreadMs(MINERS / 2, TARGET_PER_SEC);
  const first = new Map(ids.map((id, n) => [id, (n % 2) * spreadMs + random.next() * spreadMs]));
  const curve = await arrivals(world, first, 90);
  t.diagnostic(`heartbeats a second, of ${MINERS} miners: ${curve.join(' ')}`);
  assert.equal(curve.reduce((sum, count) => sum + count, 0) > 4 * MINERS, true);
  assert.ok(most(curve) <= TARGET_PER_SEC * 1.25, `${most(curve)} in one second`);
  assert.ok(Math.min(...curve.slice(60)) > 0, 'the jitter fills the lulls');
});

test('intervals and leases stretch together when the fleet would beat more than the target', async () => {
  const settings = { HEARTBEAT_TARGET_PER_SEC: '5' };
  for (const shards of [1, 4]) {
    const world = await resetWorld(openWorld(await connect(shards), { settings, shards }));
    const ids = Array.from({ length: 400 }, (_, n) => `m${n}`);
    await enterAll(world, ids);
    const beats = await Promise.all(ids.map((id) => world.miners.heartbeat(id, session(id), {})));
    const intervals = beats.map((beat) => (beat.status === 'ok' ? beat.nextHeartbeatMs : 0));
    const mean = intervals.reduce((sum, ms) => sum + ms, 0) / intervals.length;
    // 400 miners at 5 a second: 80 s. A shard takes its own size for that of the others.
    assert.ok(Math.abs(mean - 80_000) < 8_000, `mean interval ${mean} ms`);
    for (const [n, beat] of beats.entries()) {
      assert.ok(beat.status === 'ok');
      const leaseMs = beat.leaseUntilMs - beat.nowMs;
      assert.ok(leaseMs > 2.7 * (intervals[n] ?? 0), 'two heartbeats may be lost');
    }
    assert.ok(new Set(intervals).size > 100, 'jitter');
    // The fleet shrinks, and the intervals with it, down to a third of the plain lease.
    await Promise.all(ids.slice(40).map((id) => world.miners.remove(id, 'operator')));
    const after = await world.miners.heartbeat('m0', session('m0'), {});
    assert.ok(after.status === 'ok' && after.nextHeartbeatMs <= 22_000);
  }
});
