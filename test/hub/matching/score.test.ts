import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileRequest } from '../../../src/hub/matching/compile.ts';
import { compareFound, explainNone, explainParts, priceBinTop } from '../../../src/hub/matching/score.ts';
import type { Explanation, Found, MatchInput } from '../../../src/hub/matching/types.ts';

const FOUND: Found = {
  minerId: 'm',
  shard: 0,
  degraded: false,
  score: 0.8,
  capFit: 1,
  priceNorm: 0.8,
  latencyNorm: 0.9,
  trust: 0.7,
  loadNorm: 0.5,
  turn: 0.25,
  addr: 'a',
  proto: 'grpc',
  price: '0.5',
  etaMs: 10,
};

const EXPLANATION: Explanation = {
  registered: 812,
  online: 812,
  degraded: 0,
  available: 812,
  matchable: 812,
  feasible: 0,
  clauses: [],
};

test('explains the parts of a score in the form of the contract', () => {
  assert.equal(explainParts(FOUND), 'cap=1.0 • price=0.8 • latency=0.9 • trust=0.7 • load=0.5');
  const third = explainParts({ ...FOUND, capFit: 1 / 3, degraded: true });
  assert.match(third, /^cap=0\.33 • .* • degraded: lease over, score halved$/);
});

test('orders online before degraded, then score, then turn, then id', () => {
  const degraded = { ...FOUND, degraded: true, score: 0.9 };
  const worse = { ...FOUND, score: 0.7 };
  const later = { ...FOUND, turn: 0.5 };
  const other = { ...FOUND, minerId: 'n' };
  const sorted = [degraded, worse, later, other, FOUND].sort(compareFound);
  assert.deepEqual(sorted, [FOUND, other, later, worse, degraded]);
});

test('says which clause nobody satisfies, and what dropping one would give', () => {
  const clauses = [
    { clause: 'min_vram_gb', have: 7, if_dropped: 0 },
    { clause: 'max_price', have: 0, if_dropped: 7 },
  ];
  assert.equal(
    explainNone({ ...EXPLANATION, clauses }),
    '0 of 812 available miners: no miner satisfies max_price; dropping max_price gives 7',
  );
});

test('says that clauses exclude each other where each alone leaves some', () => {
  const clauses = [
    { clause: 'region', have: 3, if_dropped: 2 },
    { clause: 'accel', have: 5, if_dropped: 4 },
  ];
  assert.equal(
    explainNone({ ...EXPLANATION, available: 1, clauses }),
    '0 of 1 available miner: alone, region leaves 3, accel leaves 5, but together none; dropping accel gives 4, dropping region gives 2',
  );
});

test('blames no clause when some match by the time they are counted', () => {
  const clauses = [{ clause: 'tags_any', have: 1, if_dropped: 60 }];
  assert.equal(
    explainNone({ ...EXPLANATION, available: 60, feasible: 1, clauses }),
    '0 of 60 available miners: 1 may match when asked again, for they have just changed or are near a limit',
  );
});

test('says when nobody is registered and when nobody is available', () => {
  assert.match(explainNone({ ...EXPLANATION, registered: 0, available: 0 }), /no miner is registered/);
  assert.match(explainNone({ ...EXPLANATION, available: 0 }), /busy, full or draining/);
});

test('the reference price is the upper edge of the bin, and 0 of an empty pool', () => {
  assert.equal(priceBinTop(-1), 0);
  assert.equal(priceBinTop(0), 1e-6);
  assert.ok(Math.abs(priceBinTop(62) / priceBinTop(61) - 1.25) < 1e-12);
});

test('compiles lists to terms: empty ones ask for nothing, names are compared as the index holds them', () => {
  const input: MatchInput = {
    job_id: 'j',
    requirements: {
      accel: ['CUDA'],
      tags_any: [],
      capabilities_any: ['a', 'a', 'b'],
      gpu_name_any: ['NVIDIA GeForce RTX 4090'],
      min_vram_gb: 0,
      task: 'embed',
    },
    hints: { region: 'EU', max_price: '0.5' },
    top_k: 3,
  } as MatchInput;
  const compiled = compileRequest(input, 1, 3, 4);
  assert.deepEqual(compiled.clauses, [
    { name: 'accel', kind: 'any', terms: ['accel:cuda'] },
    { name: 'capabilities_any', kind: 'any', terms: ['cap:a', 'cap:b'] },
    { name: 'gpu_name_any', kind: 'any', terms: ['gpu:rtx 4090'] },
    { name: 'region', kind: 'all', terms: ['region:eu'] },
    { name: 'task', kind: 'any', terms: ['task:embed', 'task-any'] },
  ]);
  assert.equal(compiled.strategy, 2);
  assert.equal(compiled.capabilities, 2);
  assert.equal(compiled.max_price, 0.5);
  assert.equal(compiled.min_vram_gb, undefined);
  assert.ok(compiled.start >= 0 && compiled.start < 1);
});
