import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { startWorker } from '../../src/bin/worker.ts';
import type { Config } from '../../src/platform/config.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { runCli } from '../cli/run-cli.ts';
import { openHub } from '../durable/fleet.ts';
import { startHubProcess } from '../sdk/hub-process.ts';
import { harness } from '../support/harness.ts';
import { type Receiver, startReceiver } from './receiver.ts';
import { billedMiner, feedback } from './world.ts';

const h = await harness();
let receiver: Receiver;
let env: Record<string, string>;
let minerId: string;
let config: Config;

before(async () => {
  receiver = await startReceiver(h);
  const settings = {
    COORDINATOR_BILLING_URL: receiver.url,
    COORDINATOR_API_KEY: 'key-of-the-hub',
    SHUTDOWN_TIMEOUT_SEC: '60',
    WORKER_PORT: '0',
  };
  // The worker syncs as soon as it starts.
  receiver.misbehave(['422'], 1000);
  const hub = await startHubProcess(h, settings);
  env = await h.env({ POOLHUB_URL: hub.url });
  const deps = await openHub(h, settings);
  minerId = await billedMiner(deps, { tenantId: 'tenant-cli', gpuCount: 2 });
  await feedback(deps, minerId, 'completed', { latencyMs: 3_600_000 });
  config = deps.config;
});

const poolhub = (...args: string[]) => runCli(args, env);

test('billing sync and usage say what the coordinator has', async () => {
  const alone = await poolhub('billing', 'sync', '--miner', minerId);
  assert.equal(alone.code, 1, alone.stderr);
  assert.match(
    alone.stdout,
    /^Pending: 0 records sent, 2 not yet. No worker is running: .* GET \/sla\/billing\/usage/,
  );
  const worker = await startWorker(config, createLogger('silent', 'test'));
  h.cleanup(() => worker.stop());
  const metrics = async () => (await fetch(`${worker.url}/metrics`)).text();
  const early = await poolhub('billing', 'sync', '--miner', 'another', '--json');
  assert.equal(early.code, 0, early.stderr);
  assert.equal(JSON.parse(early.stdout).released, 0);
  const failed = await poolhub('billing', 'sync', '--miner', minerId);
  assert.equal(failed.code, 1, failed.stderr);
  assert.match(failed.stdout, /^Pending: 0 records sent, 2 not yet, 2 failed, last: status 422/);
  const report = await poolhub('billing', 'usage');
  assert.equal(report.code, 0, report.stderr);
  assert.match(report.stdout, /^gpu_hours +2 +1 +1$/m);
  assert.match(report.stdout, /^compute_hours +1 +0\.3 +1$/m);
  assert.match(report.stdout, /^tenant-cli +1\.3 +2$/m);
  assert.match(report.stdout, /^1\.3 USD in 2 records of the last 24 h; 2 records are not sent; 2 failed/m);
  const failures = await poolhub('billing', 'failures', '--refused');
  assert.equal(
    failures.stdout.match(/ refused +tenant-cli +\w+ +[\d.]+ +\d+ +\S+Z +status 422, .*not this one/g)
      ?.length,
    2,
  );
  assert.equal(
    (await poolhub('billing', 'failures', '--tenant', 'nobody')).stdout,
    'No record has failed.\n',
  );
  const nothing = await poolhub('billing', 'usage', '--tenant', 'nobody');
  assert.match(nothing.stdout, /^Nothing was used/);
  assert.equal((await poolhub('billing', 'usage', '--hours', '0')).code, 2);
  assert.match(await metrics(), /^poolhub_usage_records\{state="refused"\} 2$/m);
  assert.match(await metrics(), /^poolhub_usage_sends_total\{result="refused"\} [2-9]/m);
  receiver.misbehave([], 0);
  // Nobody waits for the backoff.
  assert.match((await poolhub('billing', 'sync')).stdout, /^Synced: 2 records sent/);
  assert.match((await poolhub('billing', 'usage')).stdout, /; the coordinator has all of it$/m);
  for (const state of ['waiting', 'due', 'failing', 'refused'])
    assert.match(await metrics(), new RegExp(`^poolhub_usage_records\\{state="${state}"\\} 0$`, 'm'));
  assert.match(await metrics(), /^poolhub_usage_sends_total\{result="accepted"\} 2$/m);
});
