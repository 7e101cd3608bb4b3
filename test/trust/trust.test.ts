import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  evidenceOf,
  type ObservedLatency,
  type Outcome,
  observeLatency,
  stepTrust,
  TRUST_PRIOR,
  type TrustState,
  trustScore,
} from '../../src/hub/trust/trust.ts';

const TRANSIENT = ['timeout', 'network', 'preempted', 'cancelled'];
const HALF_LIFE_DAYS = 7;
const DAY_MS = 86_400_000;
const START: TrustState = { ...TRUST_PRIOR, atMs: null };

const after = (state: TrustState, outcome: Outcome, failCode: string | null, nowMs: number) =>
  stepTrust(state, evidenceOf(outcome, failCode, TRANSIENT), nowMs, HALF_LIFE_DAYS);

for (const [outcome, failCode, alpha, beta] of [
  ['accepted', null, 2, 2],
  ['completed', null, 3, 2],
  ['completed', 'timeout', 3, 2],
  ['failed', null, 2, 3],
  ['failed', 'oom', 2, 3],
  ['failed', 'timeout', 2, 2.25],
  ['failed', 'cancelled', 2, 2.25],
  ['failed', 'TIMEOUT', 2, 3],
  ['rejected', null, 2, 2.2],
  ['rejected', 'timeout', 2, 2.2],
] as const) {
  test(`first feedback ${outcome} ${failCode ?? ''} gives ${alpha}/${beta}`, () => {
    const state = after(START, outcome, failCode, 1000);
    assert.deepEqual([state.alpha, state.beta], [alpha, beta]);
    assert.equal(trustScore(state), alpha / (alpha + beta));
  });
}

test('a miner without feedback is trusted by half', () => assert.equal(trustScore(START), 0.5));

test('what is above the prior halves in a half-life, before the new evidence counts', () => {
  const before: TrustState = { alpha: 10, beta: 4, atMs: 0 };
  const state = after(before, 'completed', null, HALF_LIFE_DAYS * DAY_MS);
  assert.deepEqual(state, { alpha: 2 + 4 + 1, beta: 2 + 1, atMs: HALF_LIFE_DAYS * DAY_MS });
});

test('accepted neither decays nor moves the time', () => {
  const before: TrustState = { alpha: 10, beta: 4, atMs: 0 };
  assert.equal(after(before, 'accepted', null, 100 * DAY_MS), before);
});

test('a feedback that waited in the journal does not turn time back', () => {
  const before: TrustState = { alpha: 10, beta: 4, atMs: 5000 };
  assert.deepEqual(after(before, 'failed', null, 4000), { alpha: 10, beta: 5, atMs: 5000 });
});

const step = fc.record({
  outcome: fc.constantFrom<Outcome>('accepted', 'completed', 'failed', 'rejected'),
  failCode: fc.constantFrom(null, 'oom', 'timeout'),
  waitMs: fc.integer({ min: -DAY_MS, max: 100 * DAY_MS }),
});

test('property: alpha and beta never fall under the prior, trust stays inside (0, 1)', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
      let state = START;
      let nowMs = 0;
      for (const { outcome, failCode, waitMs } of steps) {
        nowMs += waitMs;
        state = after(state, outcome, failCode, nowMs);
        assert.ok(state.alpha >= TRUST_PRIOR.alpha && state.beta >= TRUST_PRIOR.beta);
        assert.ok(trustScore(state) > 0 && trustScore(state) < 1);
      }
    }),
  );
});

test('property: completed never lowers trust and failures never raise it when no time passes', () => {
  const states = fc.record({
    alpha: fc.double({ min: 2, max: 1e6, noNaN: true }),
    beta: fc.double({ min: 2, max: 1e6, noNaN: true }),
    atMs: fc.constant(0),
  });
  fc.assert(
    fc.property(states, (state) => {
      assert.ok(trustScore(after(state, 'completed', null, 0)) >= trustScore(state));
      assert.ok(trustScore(after(state, 'failed', 'oom', 0)) <= trustScore(state));
      assert.ok(trustScore(after(state, 'rejected', null, 0)) <= trustScore(state));
      assert.ok(
        trustScore(after(state, 'failed', 'oom', 0)) <= trustScore(after(state, 'failed', 'timeout', 0)),
      );
    }),
  );
});

test('property: decay over two spans is decay over their sum', () => {
  const span = fc.integer({ min: 0, max: 100 * DAY_MS });
  fc.assert(
    fc.property(span, span, (first, second) => {
      const tiny = { alphaAdded: Number.MIN_VALUE, betaAdded: 0 };
      const before: TrustState = { alpha: 50, beta: 30, atMs: 0 };
      const twice = stepTrust(
        stepTrust(before, tiny, first, HALF_LIFE_DAYS),
        tiny,
        first + second,
        HALF_LIFE_DAYS,
      );
      const once = stepTrust(before, tiny, first + second, HALF_LIFE_DAYS);
      assert.ok(Math.abs(twice.alpha - once.alpha) < 1e-9 && Math.abs(twice.beta - once.beta) < 1e-9);
    }),
  );
});

test('property: the observed latency stays between the extremes and counts its samples', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1 }), (samples) => {
      let observed: ObservedLatency = { meanMs: null, samples: 0 };
      for (const sample of samples) observed = observeLatency(observed, sample);
      assert.equal(observed.samples, samples.length);
      const mean = observed.meanMs as number;
      assert.ok(mean >= Math.min(...samples) - 1e-6 && mean <= Math.max(...samples) + 1e-6);
    }),
  );
});

test('the observed latency moves a fifth of the way to each new sample', () => {
  const first = observeLatency({ meanMs: null, samples: 0 }, 100);
  assert.deepEqual(first, { meanMs: 100, samples: 1 });
  assert.deepEqual(observeLatency(first, 200), { meanMs: 120, samples: 2 });
});
