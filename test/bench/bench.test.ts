import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import postgres from 'postgres';
import { type Program, startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../support/entry.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();

/** Starts `npm run bench -- <args>` without npm, on the stores of the test run. */
async function startBench(args: string[]): Promise<Program> {
  const program = await startProgram(process.execPath, [...entryArguments('bench/run.ts'), ...args], {
    cwd: packageRoot,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      REDIS_URL: h.redisUrl,
      DB_DSN: await h.db(),
      TEST_BUILD: process.env.TEST_BUILD,
    },
  });
  h.cleanup(() => program.stop());
  return program;
}

async function bench(...args: string[]): Promise<{ code: number | null; output: string }> {
  const program = await startBench(args);
  const { code } = await program.exited;
  return { code, output: program.output() };
}

// biome-ignore lint/suspicious/noExplicitAny: the report as any program would read it
async function report(...args: string[]): Promise<any> {
  const { code, output } = await bench(...args, '--json');
  assert.equal(code, 0, output);
  return JSON.parse(output.split('\n').find((line) => line.startsWith('{')) ?? '');
}

/** Fails when a benchmark left a key or a database behind; no other test makes such. */
async function assertNothingLeft(): Promise<void> {
  assert.deepEqual(await h.redis.keys('bench-*'), []);
  const sql = postgres(await h.db(), { max: 1 });
  try {
    const left = await sql`SELECT datname FROM pg_database WHERE datname LIKE 'poolhub_bench_%'`;
    assert.deepEqual([...left], []);
  } finally {
    await sql.end();
  }
}

test('match: 13 kinds of requests, exact, on both kinds of fleets', async () => {
  for (const fleet of ['mixed', 'equal']) {
    const found = await report('match', '--miners', '300', '--fleet', fleet, '--rounds', '1', '--calls', '2');
    assert.equal(found.miners, 300);
    assert.equal(found.fleet, fleet);
    assert.equal(found.shapes.length, 13);
    assert.equal(new Set(found.shapes.map(({ name }: { name: string }) => name)).size, 13);
    for (const shape of found.shapes) {
      assert.equal(shape.exact, true, shape.name);
      assert.ok(shape.server_us > 0 && shape.noop_us > 0 && shape.sql_ms >= 0, shape.name);
      assert.equal(shape.feasible > 0, shape.name !== 'impossible', `${fleet}: ${shape.name}`);
    }
    assert.equal(typeof found.bytes_per_miner, 'number');
  }
  await assertNothingLeft();
});

test('scale: every number of shards, and no fewer figures than points', async () => {
  const found = await report('scale', '--miners', '200', '--rounds', '1', '--calls', '2');
  assert.deepEqual(
    found.points.map(({ miners, shards }: { miners: number; shards: number }) => [miners, shards]),
    [
      [200, 1],
      [200, 4],
      [200, 16],
    ],
  );
  for (const point of found.points) {
    for (const key of ['server_us', 'cpu_us', 'worst_us', 'e2e_p50_ms', 'e2e_p99_ms'])
      assert.ok(point[key] > 0, key);
  }
  assert.equal(found.exponent, null);
  await assertNothingLeft();
});

test('heartbeat and http: every figure of a real hub process, kept as results', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'poolhub-results-'));
  h.cleanup(() => rm(folder, { recursive: true }));
  const load = ['--miners', '100', '--rounds', '1', '--seconds', '0.2', '--connections', '4'];
  const { code, output } = await bench('results', 'heartbeat', 'http', '--folder', folder, ...load);
  assert.equal(code, 0, output);
  const measured = {
    heartbeat: ['ws_per_s', 'http_per_s', 'p50_ms', 'p99_ms', 'bare_per_s'],
    http: ['match_per_s', 'http_per_s', 'p50_ms', 'p99_ms', 'bare_per_s'],
  };
  for (const [name, keys] of Object.entries(measured)) {
    const kept = JSON.parse(await readFile(join(folder, 'results', `${name}.json`), 'utf8'));
    assert.equal(kept.command, `npm run bench -- ${name} ${load.join(' ')}`);
    for (const key of keys) assert.ok(kept.report[key] > 0, `${name}: ${key} is ${kept.report[key]}`);
    for (const [key, value] of Object.entries(kept.machine)) assert.ok(value, key);
  }
  const text = await readFile(join(folder, 'RESULTS.md'), 'utf8');
  assert.match(text, /## heartbeat\n[^#]+heartbeat over WebSocket[^#]+## http\n[^#]+match over HTTP/);
  for (const path of [packageRoot, folder]) assert.ok(!text.includes(path), path);
  await assertNothingLeft();
});

test('sockets: every miner keeps its socket and beats', async () => {
  const found = await report('sockets', '--miners', '100', '--lease', '3', '--seconds', '0.5');
  assert.deepEqual([found.miners, found.refused, found.lost, found.failed_beats], [100, 0, 0, 0]);
  assert.ok(found.beats_per_s > 0 && found.beat_delay.p99_ms > 0, JSON.stringify(found.beat_delay));
  assert.ok(found.match_beating.p99_ms > 0 && found.match_silent.p99_ms > 0);
  assert.ok(found.hub_rss_mb.settled > 0 && found.load_beating.hub_pct !== 0);
  await assertNothingLeft();
});

test('coordinator: no job is lost or given twice', async () => {
  const load = ['--miners', '100', '--rate', '100', '--seconds', '0.5', '--finished', '2000'];
  const found = await report('coordinator', ...load);
  assert.deepEqual([found.submitted, found.lost, found.duplicated], [50, 0, 0]);
  assert.ok(found.jobs_per_s > 0 && found.wakeup_p99_ms > 0);
  await assertNothingLeft();
});

test('sla: every miner is counted once, matches go on, and levels are read by an index', async () => {
  const size = ['--miners', '200', '--rows', '2000', '--rounds', '1', '--calls', '5', '--seconds', '0.2'];
  const found = await report('sla', ...size);
  assert.deepEqual([found.miners, found.missed, found.readings.by_index], [200, 0, true]);
  assert.ok(found.rows >= 2000 && found.collection_s > 0 && found.p99_ratio > 0);
  for (const part of [found.match_during, found.readings.day, found.readings.all]) assert.ok(part.p99_ms > 0);
  await assertNothingLeft();
});

test('a signal ends a run, which takes back what it wrote', async () => {
  const program = await startBench(['match', '--miners', '200000']);
  await waitFor(async () => (await h.redis.keys('bench-*')).length > 0, { timeoutMs: 30_000 });
  program.signal('SIGTERM');
  assert.equal((await program.exited).code, 143, program.output());
  await assertNothingLeft();
});

test('help, and a clear line for what is not understood', async () => {
  const help = await bench('--help');
  assert.equal(help.code, 0);
  assert.match(help.output, /Usage: npm run bench/);
  for (const [args, why] of [
    [[], /name one of match, heartbeat, http, scale, sockets, coordinator, sla/],
    [['nothing'], /name one of/],
    [['match', '--miners', 'many'], /--miners must be a whole number/],
    [['match', '--fleet', 'odd'], /--fleet must be mixed or equal/],
    [['http', '--miners', '100', '--connections', '101'], /--connections must not be more than --miners/],
    [['match', '--quick'], /--quick/],
    [['results', 'nothing'], /no benchmark "nothing"/],
    [['results', 'match', '--miners', 'many'], /--miners must be a whole number/],
  ] as const) {
    const { code, output } = await bench(...args);
    assert.equal(code, 2, output);
    assert.match(output, why);
    assert.equal(output.trim().split('\n').length, 1, output);
  }
});
