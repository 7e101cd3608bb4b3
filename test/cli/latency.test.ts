import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Latencies } from '../../src/cli/latency.ts';

test('percentiles are those of what was recorded, to three digits', () => {
  const latencies = new Latencies();
  for (let ms = 1; ms <= 1_000; ms += 1) latencies.record(ms);
  const { count, p50_ms, p99_ms } = latencies.total();
  assert.equal(count, 1_000);
  assert.ok(Math.abs(p50_ms - 500) < 1 && Math.abs(p99_ms - 990) < 1, `${p50_ms} and ${p99_ms}`);
});

test('nothing recorded is no latency, and less than a microsecond counts as one', () => {
  const latencies = new Latencies();
  assert.deepEqual(latencies.recent(), { count: 0, p50_ms: 0, p99_ms: 0 });
  latencies.record(0);
  assert.deepEqual(latencies.total(), { count: 1, p50_ms: 0.001, p99_ms: 0.001 });
});
