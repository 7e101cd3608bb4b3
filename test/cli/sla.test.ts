import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startHub } from '../../src/bin/hub.ts';
import { sparkline, svgPlot, textPlot, thinOut } from '../../src/cli/plot.ts';
import { capacitySnapshots } from '../../src/hub/sla/tables.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { openWorld } from '../sla/world.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { runCli } from './run-cli.ts';

const h = await harness();

test('the report and the forecast show what the hub has stored', async () => {
  const world = await openWorld(h);
  const miner = await world.register();
  await world.job(miner, 'failed');
  await world.run(40, () => world.beat(miner));
  await world.collect();
  const hourMs = 3_600_000;
  const rows = Array.from({ length: 24 * 8 }, (_, i) => ({
    at: new Date(Date.now() - (i + 1) * hourMs),
    miners: 1,
    minersOnline: 1,
    placesTotal: 4,
    placesOnline: 4,
    placesUsed: i % 24 < 12 ? 3 : 1,
  }));
  await world.deps.db.run((orm) => orm.insert(capacitySnapshots).values(rows));
  const config = { ...world.deps.config, poolhub_port: 0, shutdown_drain_ms: 0 };
  const hub = await startHub(config, createLogger('silent', 'test'));
  h.cleanup(() => hub.stop());
  const env = { POOLHUB_URL: hub.url, COORDINATOR_SHARED_SECRET: TEST_SECRETS.COORDINATOR_SHARED_SECRET };

  const report = await runCli(['sla', 'report', '--miner', miner, '--hours', '2'], env);
  assert.equal(report.code, 0, report.stderr);
  assert.match(report.stdout, new RegExp(`^${miner}  completion_rate +0 +90 +0 +0 +critical +▄$`, 'm'));
  assert.match(report.stdout, new RegExp(`^${miner}  uptime +100 `, 'm'));
  assert.match(report.stdout, /^violated: \d+ open violations/m);

  const folder = await mkdtemp(join(tmpdir(), 'poolhub-plot-'));
  h.cleanup(() => rm(folder, { recursive: true }));
  const file = join(folder, 'plot.svg');
  const forecast = await runCli(['capacity', 'forecast', '--hours', '48', '--svg', file], env);
  assert.equal(forecast.code, 0, forecast.stderr);
  assert.match(
    forecast.stdout,
    /^Places in use over the next 48 h, by holt winters daily on \d+ h of history/,
  );
  assert.match(forecast.stdout, /█/);
  assert.match(await readFile(file, 'utf8'), /^<svg [\s\S]*<polyline [\s\S]*<\/svg>\n$/);
});

test('plots hold what they are given', () => {
  assert.equal(sparkline([0, 50, null, 100]), '▁▅·█');
  assert.equal(sparkline([7, 7]), '▄▄');
  const band = (expected: number) => ({ lower: expected - 1, expected, upper: expected + 1 });
  assert.deepEqual(thinOut([band(1), band(3)], 1), [{ lower: 0, expected: 2, upper: 4 }]);
  const lines = textPlot([band(1), band(3)], 10, 4).split('\n');
  assert.deepEqual(lines, ['4.0 │ █', '    │░░', '    │█', '  0 │░', '    └──']);
  assert.match(svgPlot([band(1)], 'a < b & c'), /a &#60; b &#38; c/);
});
