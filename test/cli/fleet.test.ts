import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as v from 'valibot';
import { fleetKey, fleetMiner, makeFleet } from '../../src/cli/fleet.ts';
import { CAPABILITIES, REGIONS } from '../../src/cli/fleet-catalog.ts';
import { normal, seededRandom, weightedIndex } from '../../src/cli/random.ts';
import { RegisterRequest } from '../../src/hub/miners/schema.ts';

/** The eighth miner of seed 42. */
const GOLDEN = ['AMD Instinct MI210', 'eu-west-1', '1.3025', 49];

const FLEET = makeFleet(5_000, { seed: 42 });

describe('a fleet', () => {
  test('is the same for the same seed, and another for another', () => {
    assert.deepEqual(makeFleet(50, { seed: 42 }), FLEET.slice(0, 50));
    assert.deepEqual(fleetMiner(4_321, { seed: 42 }), FLEET[4_321]);
    assert.notDeepEqual(makeFleet(50, { seed: 43 }), FLEET.slice(0, 50));
  });

  test('does not change from one version to the next: benchmarks and bug reports name seeds', () => {
    const { profile, latency_ms } = fleetMiner(7, { seed: 42 });
    assert.deepEqual([profile.gpu_name, profile.region, profile.price_token_per_ksec, latency_ms], GOLDEN);
  });

  test('is made of miners that the hub takes', () => {
    for (const kind of ['mixed', 'equal'] as const) {
      for (const { profile } of makeFleet(300, { seed: 7, kind })) {
        const parsed = v.safeParse(RegisterRequest, { ...profile, api_key: fleetKey(7, profile.miner_id) });
        assert.ok(parsed.success, JSON.stringify(profile));
      }
    }
  });

  test('has every region, cards of many sizes, and some machines without one', () => {
    const regions = new Set(FLEET.map(({ profile }) => profile.region));
    assert.deepEqual([...regions].sort(), REGIONS.map(({ name }) => name).sort());
    const sizes = new Set(FLEET.map(({ profile }) => profile.gpu_vram));
    for (const gb of [0, 12, 24, 80, 141]) assert.ok(sizes.has(gb), `no machine with ${gb} GB`);
  });

  test('offers capabilities by Zipf: the first is common, the last are rare', () => {
    const counts = new Map<string, number>();
    for (const { profile } of FLEET) {
      for (const name of profile.capabilities) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const of = (n: number) => counts.get(CAPABILITIES[n]?.name ?? '') ?? 0;
    assert.ok(of(0) > FLEET.length / 3);
    assert.ok(of(0) > 5 * of(19), `${of(0)} and ${of(19)}`);
    assert.ok(of(255) < FLEET.length / 50);
  });

  test('never offers a model that does not fit into the memory', () => {
    const needs = new Map(CAPABILITIES.map(({ name, vram_gb }) => [name, vram_gb]));
    for (const { profile } of FLEET) {
      for (const name of profile.capabilities) assert.ok((needs.get(name) ?? 0) <= (profile.gpu_vram ?? 0));
    }
  });

  test('of equals differs in ids and addresses alone', () => {
    const equal = makeFleet(10, { seed: 1, kind: 'equal' });
    const bare = equal.map(({ profile }) => ({ ...profile, miner_id: '', addr: '' }));
    for (const profile of bare) assert.deepEqual(profile, bare[0]);
    assert.equal(new Set(equal.map(({ profile }) => profile.miner_id)).size, 10);
  });
});

describe('seeded numbers', () => {
  test('are uniform in [0, 1)', () => {
    const random = seededRandom(1, 2, 3);
    const values = Array.from({ length: 20_000 }, random);
    assert.ok(values.every((value) => value >= 0 && value < 1));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    assert.ok(Math.abs(mean - 0.5) < 0.01, `mean ${mean}`);
  });

  test('of neighbouring seeds have nothing to do with each other', () => {
    const firsts = Array.from({ length: 2_000 }, (_, n) => seededRandom(1, n)());
    const pairs = firsts.slice(1).map((value, n) => (value - 0.5) * ((firsts[n] as number) - 0.5));
    const covariance = pairs.reduce((sum, value) => sum + value, 0) / pairs.length;
    assert.ok(Math.abs(covariance) < 0.01, `covariance ${covariance}`);
  });

  test('follow weights', () => {
    const choose = weightedIndex([1, 0, 3]);
    const random = seededRandom(5);
    const counts = [0, 0, 0];
    for (let n = 0; n < 8_000; n += 1) {
      const index = choose(random);
      counts[index] = (counts[index] as number) + 1;
    }
    assert.equal(counts[1], 0);
    const [ones = 0, , threes = 0] = counts;
    assert.ok(threes > 2.5 * ones && threes < 3.5 * ones, `${counts}`);
  });

  test('may be normal, with mean 0 and variance 1', () => {
    const random = seededRandom(9);
    const values = Array.from({ length: 20_000 }, () => normal(random));
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    assert.ok(Math.abs(mean) < 0.03 && Math.abs(variance - 1) < 0.05, `mean ${mean}, variance ${variance}`);
  });
});
