import assert from 'node:assert/strict';
import type { Parameters } from 'fast-check';
import type { FoundSet, MatchInput } from '../../src/hub/matching/types.ts';
import type { Difference } from '../../src/hub/registry/difference.ts';
import { verifyRegistry } from '../../src/hub/registry/verify.ts';
import { askOracle, type OracleAnswer, type Pool } from './oracle.ts';
import type { World } from './registry-world.ts';

/** Prices inside one eighth of a bin differ by less than this share (1.25 ** (1/8) - 1). */
const TIE_SHARE = 1.25 ** (1 / 8) - 1;
/** Sums of the same numbers in another order. */
const ROUNDING = 1e-12;

/**
 * Runs of a property: `POOLHUB_LONG=1` makes them twenty times as many, `POOLHUB_SEED` repeats a failure (fast-check prints its seed, and the
 * path for `POOLHUB_PATH`).
 */
export function runs<T>(count: number): Parameters<T> {
  const { POOLHUB_LONG, POOLHUB_SEED, POOLHUB_PATH } = process.env;
  return {
    includeErrorInReport: true,
    numRuns: POOLHUB_LONG === '1' ? count * 20 : count,
    ...(POOLHUB_SEED ? { seed: Number(POOLHUB_SEED) } : {}),
    ...(POOLHUB_PATH ? { path: POOLHUB_PATH } : {}),
  };
}

/** Fails with every difference that verify finds. */
export async function assertVerified(world: World): Promise<void> {
  const { counts, differences } = await verifyRegistry(world.registry);
  assert.deepEqual(counts, {}, differences.map(lineOf).join('\n'));
}

function lineOf({ kind, subject, detail }: Difference): string {
  return `${kind}: ${subject}: ${detail}`;
}

/** What the oracle needs to know of the world as it is now. */
export async function poolOf(world: World): Promise<Pool> {
  const [miners, slotCounts] = await Promise.all([world.hashes(), world.slotCounts()]);
  return { miners, slotCounts, strategies: world.strategies, nowMs: world.nowMs };
}

/** Asks the registry and the oracle, and demands the same answer: ids, order, scores, counts. Nothing may be due. */
export async function assertExact(world: World, pool: Pool, request: MatchInput): Promise<FoundSet> {
  const expected = askOracle(pool, request);
  const { matching } = world.matching();
  const strategy = matching.strategies.indexOf(request.hints.strategy ?? 'balanced');
  const found = await matching.find(request, strategy, request.top_k);
  assert.equal(found.truncated, false, 'truncated');
  assertRanking(found, expected, request, world);
  const explained = await matching.explain(request, strategy);
  const { registered, online, degraded, available, matchable } = expected;
  assert.deepEqual(
    [explained.registered, explained.online, explained.degraded, explained.available, explained.matchable],
    [registered, online, degraded, available, matchable],
    'pool counts',
  );
  const counts: [name: string, counted: number, exact: number][] = [
    ['feasible', found.feasible, expected.ranked.length],
    ['explained feasible', explained.feasible, expected.ranked.length],
    ...explained.clauses.flatMap(({ clause, have, if_dropped }): [string, number, number][] => [
      [`${clause} have`, have, expected.clauses.get(clause)?.have ?? -1],
      [`${clause} if dropped`, if_dropped, expected.clauses.get(clause)?.ifDropped ?? -1],
    ]),
  ];
  // In a bin that a limit cuts through, more than the script would settle one by one may be counted whole.
  const atLeast = pool.miners.length > world.walk.cut;
  for (const [name, counted, exact] of counts) {
    if (atLeast) assert.ok(counted >= exact, `${name}: ${counted}, at least ${exact}`);
    else assert.equal(counted, exact, name);
  }
  if (!found.loose) assert.equal(found.feasible, expected.ranked.length, 'feasible');
  assert.deepEqual(new Set(explained.clauses.map(({ clause }) => clause)), new Set(expected.clauses.keys()));
  return found;
}

/** Demands the best of the oracle, in its order. */
export function assertRanking(
  found: FoundSet,
  expected: OracleAnswer,
  request: MatchInput,
  world: World,
): void {
  const best = expected.ranked.slice(0, request.top_k);
  assert.equal(found.candidates.length, best.length, 'candidates');
  const exact = new Map(expected.ranked.map((ranked) => [ranked.id, ranked]));
  const weight = world.strategies[request.hints.strategy ?? 'balanced']?.price ?? 0;
  for (const [i, candidate] of found.candidates.entries()) {
    const known = exact.get(candidate.minerId);
    assert.ok(known, `${candidate.minerId} does not match`);
    const { minerId: id, degraded, score, capFit, priceNorm, etaMs } = candidate;
    assert.ok(
      Math.abs(score - known.score) <= ROUNDING,
      `score of ${id}: ${score}, should be ${known.score}`,
    );
    assert.deepEqual(
      { id, degraded, capFit, priceNorm, etaMs },
      {
        id: known.id,
        degraded: known.degraded,
        capFit: known.capFit,
        priceNorm: known.priceNorm,
        etaMs: known.etaMs,
      },
    );
    const wanted = best[i] as (typeof best)[number];
    if (wanted.id === id) continue;
    assert.equal(degraded, wanted.degraded, `place ${i}: state`);
    const slack = found.tied ? weight * TIE_SHARE + ROUNDING : ROUNDING;
    assert.ok(
      wanted.score !== known.score || found.tied || (found.loose && world.shards > 1),
      `place ${i}: ${id}, should be ${wanted.id}, which is nearer to the start`,
    );
    assert.ok(
      score >= wanted.score - slack,
      `place ${i}: ${id} (${score}), should be ${wanted.id} (${wanted.score})`,
    );
  }
}

/** Nothing that is over still counts once all that is due has been stepped; self-preservation may keep lapsed miners of a larger fleet. */
export function assertTimely({ miners, nowMs }: Pool, graceMs: number, isPreserved: boolean): void {
  for (const { id, hash } of miners) {
    const lapsedMs = nowMs - Number(hash.lease_until_ms);
    assert.equal(hash.state, lapsedMs < 0 ? 'online' : 'degraded', `${id}: state`);
    if (!isPreserved) assert.ok(lapsedMs < graceMs, `${id}: should be gone`);
    if (hash.price_override)
      assert.ok(nowMs < Number(hash.price_override_until_ms || Infinity), `${id}: override`);
  }
}

/** Demands that a miner is said to fail just what it fails. */
export async function assertFails(
  world: World,
  pool: Pool,
  request: MatchInput,
  minerId: string,
): Promise<void> {
  const { matching } = world.matching();
  const failed = await matching.failedClauses(request, 0, minerId);
  const expected = askOracle(pool, request).fails.get(minerId);
  assert.deepEqual(failed && new Set(failed), expected && new Set(expected), `fails of ${minerId}`);
}
