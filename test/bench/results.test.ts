import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type Result, writeResult } from '../../bench/report/results.ts';
import { scalePlot } from '../../bench/report/scale-plot.ts';
import { type ScalePoint, scaleBenchmark } from '../../bench/scale/run.ts';
import type { Benchmark } from '../../bench/support/benchmark.ts';

const folder = await mkdtemp(join(tmpdir(), 'poolhub-results-'));
after(() => rm(folder, { recursive: true }));

const points: ScalePoint[] = [10_000, 100_000, 1_000_000].flatMap((miners) =>
  [1, 4].map((shards) => ({
    miners,
    shards,
    server_us: shards * 100 * (miners / 10_000) ** 0.5,
    cpu_us: 1,
    worst_us: 1,
    e2e_p50_ms: 1,
    e2e_p99_ms: 2,
  })),
);

const scale: Result = {
  bench: 'scale',
  command: 'npm run bench -- scale',
  date: '2026-01-02T03:04:05.000Z',
  machine: {
    cpu: 'Processor <1>',
    cores: 2,
    memory_gib: 8,
    system: 'Linux 6 x64',
    node: '20',
    redis: '7',
    postgres: '15',
  },
  load_at_start: 0.5,
  report: { fleet: 'mixed', points, exponent: 0.5 },
};

const http: Result = {
  ...scale,
  bench: 'http',
  command: 'npm run bench -- http',
  report: { text: 'one run' },
};

async function benchmarkOf(name: string): Promise<Benchmark<object>> {
  if (name === 'scale') return scaleBenchmark as Benchmark<object>;
  return {
    run: () => assert.fail('nothing is measured'),
    failed: (report) => 'wrong' in report,
    table: (report) => (report as { text: string }).text,
  };
}

test('a section is replaced by the last run of its benchmark, the others stay', async () => {
  for (const result of [scale, http, { ...http, report: { text: 'another run' } }]) {
    await writeResult(folder, result, benchmarkOf);
  }
  const text = await readFile(join(folder, 'RESULTS.md'), 'utf8');
  assert.deepEqual(text.match(/^## .*/gm), ['## http', '## scale']);
  assert.ok(text.includes('another run') && !text.includes('one run'));
  assert.match(text, /1000000 +1 +1000 +10 /); // Ten times what 10,000 miners cost.
  assert.match(text, /2026-01-02, Processor <1>, 2 cores, 8 GiB, .* load average 0.5 before/);
  assert.match(text, /!\[.*\]\(results\/scale\.svg\)/);
  assert.match(await readFile(join(folder, 'results', 'scale.svg'), 'utf8'), /^<svg .*<\/svg>\n$/s);

  await writeResult(folder, { ...http, report: { text: 'third', wrong: true } }, benchmarkOf);
  assert.match(await readFile(join(folder, 'RESULTS.md'), 'utf8'), /found something wrong[^#]*third/);
});

test('a power law is a straight line in the plot, and names stand beside their lines', () => {
  const svg = scalePlot(points, 0.5, 'a & b');
  const lines = [...svg.matchAll(/<polyline[^>]* points="([^"]+)"/g)].map(([, list = '']) =>
    list.split(' ').map((pair) => pair.split(',').map(Number) as [number, number]),
  );
  assert.equal(lines.length, 2);
  for (const [first, middle, last] of lines as [number, number][][]) {
    assert.ok(first && middle && last);
    assert.ok(Math.abs((first[1] + last[1]) / 2 - middle[1]) <= 0.2, `${first} ${middle} ${last}`);
    assert.ok(Math.abs((first[0] + last[0]) / 2 - middle[0]) <= 0.2, `${first} ${middle} ${last}`);
    assert.ok(last[1] < first[1], 'more is higher');
  }
  assert.match(svg, />1 shard</);
  assert.match(svg, />4 shards</);
  assert.match(svg, /a &#38; b/);
  assert.doesNotMatch(svg, /NaN|Infinity|undefined/);
  assert.doesNotMatch(scalePlot(points.slice(0, 1), null, ''), /NaN|Infinity|undefined/);
});
