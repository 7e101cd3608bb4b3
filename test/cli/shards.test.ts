import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_SHARDS, MEASURED, planShards } from '../../src/cli/shards-plan.ts';
import { runCli } from './run-cli.ts';

const GIB = 1024 ** 3;
const demand = (miners: number, matchesPerSec = 100) => ({
  miners,
  matchesPerSec,
  heartbeatsPerSec: Math.min(5_000, miners / 20),
  maxMemoryBytes: 16 * GIB,
});

test('a small pool takes one server, a large one a cluster that carries it', () => {
  assert.deepEqual([planShards(demand(1_000)).shards, planShards(demand(1_000)).masters], [1, 1]);
  for (const miners of [200_000, 1_000_000, 3_000_000]) {
    for (const matchesPerSec of [1, 100, 1_000]) {
      const plan = planShards(demand(miners, matchesPerSec));
      const what = JSON.stringify(plan);
      assert.ok(plan.shards >= 16 && plan.masters >= 3 && plan.masters <= plan.shards, what);
      assert.ok(plan.minersPerShard <= 100_000 && plan.minersPerShard * plan.shards >= miners, what);
      assert.ok(plan.loadPerMaster <= 0.5 && plan.memoryBytesPerMaster <= 16 * GIB, what);
      assert.ok(plan.memoryBytesPerMaster * plan.masters >= miners * MEASURED.bytesPerMiner, what);
      assert.equal(plan.redisReplicas, plan.masters);
    }
  }
});

test('more of anything never takes less', () => {
  let before = 0;
  for (const miners of [1_000, 50_000, 100_000, 500_000, 2_000_000]) {
    const { masters } = planShards(demand(miners));
    assert.ok(masters >= before);
    before = masters;
  }
});

test('what no cluster carries is said', () => {
  assert.throws(() => planShards(demand(1_000_000, 1_000_000)), new RegExp(String(MAX_SHARDS)));
});

test('poolhub shards plan prints a plan, for people and for programs', async () => {
  const text = await runCli(['shards', 'plan', '--miners', '1000000']);
  assert.equal(text.code, 0);
  assert.match(text.stdout, /REDIS_SHARDS +\d+/);
  const json = await runCli(['shards', 'plan', '--miners', '20000', '--json']);
  assert.equal(JSON.parse(json.stdout).shards, 1);
  const wrong = await runCli(['shards', 'plan', '--miners', 'many']);
  assert.equal(wrong.code, 2);
});
