import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BruteForce } from '../../bench/match/brute-force.ts';
import type { PoolMiner } from '../../bench/match/pool.ts';
import { startOf } from '../../src/hub/matching/compile.ts';
import type { Found, FoundSet } from '../../src/hub/matching/types.ts';

const WEIGHTS = { cap: 0.4, price: 0.2, latency: 0.2, trust: 0.15, load: 0.05 };
const PRICE_REFERENCE = 1;
const JOB = 'job-1';

const miner = (slot: number, changes: Partial<PoolMiner> = {}): PoolMiner => ({
  id: `miner-${slot}`,
  slot,
  free: true,
  price: 0.5,
  vramGb: 24,
  staticScore: 0.2,
  region: 'eu-west-1',
  gpuKey: 'rtx 4090',
  accel: ['cuda'],
  tags: ['spot'],
  capabilities: ['llama', 'whisper'],
  ...changes,
});

const found = (score: number, { id }: PoolMiner): Found => ({
  minerId: id,
  shard: 0,
  degraded: false,
  score,
  capFit: 1,
  priceNorm: 0,
  latencyNorm: 0,
  trust: 0,
  loadNorm: 0,
  turn: 0,
  addr: '',
  proto: '',
  price: '',
  etaMs: null,
});

const answer = (candidates: Found[], feasible: number, flags: Partial<FoundSet> = {}): FoundSet => ({
  candidates,
  feasible,
  loose: false,
  tied: false,
  truncated: false,
  recordsRead: 0,
  ...flags,
});

const cheap = miner(0, { price: 0.25 });
const middle = miner(1);
const dear = miner(2, { price: 0.75 });
const pool = [dear, cheap, middle, miner(3, { free: false, price: 0.01 })];
const scores = { cheap: 0.4 + 0.2 * 0.75 + 0.2, middle: 0.4 + 0.2 * 0.5 + 0.2 };

test('the best come first, by the formula of the contract', () => {
  const truth = new BruteForce(pool, { top_k: 2 }, WEIGHTS, PRICE_REFERENCE);
  assert.equal(truth.feasible.length, 3);
  const best = truth.best(JOB);
  assert.deepEqual(
    best.map((scored) => scored.miner.id),
    [cheap.id, middle.id],
  );
  assert.ok(Math.abs((best[0]?.score ?? 0) - scores.cheap) < 1e-12);
});

test('equal miners come in the order of their slots from where the job starts', () => {
  const equal = Array.from({ length: 10 }, (_, slot) => miner(slot));
  const truth = new BruteForce(equal, { top_k: 10 }, WEIGHTS, PRICE_REFERENCE);
  const start = Math.floor(startOf(JOB) * 10);
  assert.deepEqual(
    truth.best(JOB).map((scored) => scored.miner.slot),
    Array.from({ length: 10 }, (_, n) => (start + n) % 10),
  );
});

test('each clause leaves out who does not satisfy it', () => {
  const others: [clause: object, outsider: Partial<PoolMiner>][] = [
    [{ accel: ['cuda'] }, { accel: ['rocm'] }],
    [{ tags_any: ['spot', 'green'] }, { tags: ['verified'] }],
    [{ capabilities_any: ['llama'] }, { capabilities: ['clip'] }],
    [{ gpu_name_any: ['rtx 4090'] }, { gpuKey: 'h100' }],
    [{ min_vram_gb: 24 }, { vramGb: 23 }],
    [{ min_vram_gb: 1 }, { vramGb: -1 }],
    [{ region: 'eu' }, { region: 'europe-1' }],
    [{ max_price: 0.5 }, { price: 0.51 }],
  ];
  for (const [clause, outsider] of others) {
    const truth = new BruteForce(
      [miner(0), miner(1, outsider)],
      { ...clause, top_k: 5 },
      WEIGHTS,
      PRICE_REFERENCE,
    );
    assert.deepEqual(
      truth.feasible.map((scored) => scored.miner.slot),
      [0],
      JSON.stringify(clause),
    );
  }
});

test('an answer is confirmed only when it is the exact one', () => {
  const truth = new BruteForce(pool, { top_k: 2 }, WEIGHTS, PRICE_REFERENCE);
  const right = [found(scores.cheap, cheap), found(scores.middle, middle)];
  const cases: [what: string, set: FoundSet, exact: boolean][] = [
    ['exact', answer(right, 3), true],
    ['a miner is missing', answer(right.slice(0, 1), 3), false],
    ['another order', answer([...right].reverse(), 3), false],
    ['a better one left out', answer([found(scores.cheap, cheap), found(0.65, dear)], 3), false],
    ['a score that is off', answer([found(scores.cheap + 1e-9, cheap), right[1] as Found], 3), false],
    ['one that does not match', answer([found(0.7, pool[3] as PoolMiner), right[1] as Found], 3), false],
    ['another count', answer(right, 4), false],
    ['a count that says it is loose', answer(right, 4, { loose: true }), true],
    ['a loose count that is too low', answer(right, 2, { loose: true }), false],
    ['cut short', answer(right, 3, { truncated: true }), false],
    ['a sampled crowd, but too far off', answer([...right].reverse(), 3, { tied: true }), false],
  ];
  for (const [what, set, exact] of cases) assert.equal(truth.confirms(set, JOB), exact, what);
});

test('a sampled crowd may lose up to an eighth of a price bin', () => {
  const near = miner(0, { price: 0.5 });
  const nearer = miner(1, { price: 0.49 });
  const truth = new BruteForce([near, nearer], { top_k: 1 }, WEIGHTS, PRICE_REFERENCE);
  const second = found(0.4 + 0.2 * 0.5 + 0.2, near);
  assert.equal(truth.confirms(answer([second], 2), JOB), false);
  assert.equal(truth.confirms(answer([second], 2, { tied: true }), JOB), true);
});
