import fc from 'fast-check';
import * as v from 'valibot';
import { MatchRequest } from '../../src/hub/matching/schema.ts';
import type { MatchInput } from '../../src/hub/matching/types.ts';
import { POOLS } from './fleets.ts';

const some = <T>(items: readonly T[], maxLength: number) =>
  fc.subarray([...items], { minLength: 0, maxLength });
const sometimes = <T>(arbitrary: fc.Arbitrary<T>, freq = 3) => fc.option(arbitrary, { freq, nil: undefined });

/** Clauses are left out more often than given, so that several together still leave some miners. */
const rarely = <T>(arbitrary: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });

const requirements = fc.record({
  task: rarely(fc.constantFrom('embed', 'chat', 'other')),
  min_vram_gb: rarely(fc.constantFrom(0, 0.25, 8, 12.5, 13, 24, 24.1, 24.6, 24.8, 64, 65, 100, 4095, 4096)),
  min_ram_gb: rarely(fc.constantFrom(0, 8, 12.5, 16, 64, 5000)),
  accel: rarely(some([...POOLS.accels, 'CUDA', 'none'], 3)),
  tags_any: rarely(some([...POOLS.tags, 'unheard of'], 3)),
  tags_all: rarely(some([...POOLS.tags, 'unheard of'], 2)),
  tags_none: rarely(some([...POOLS.tags, 'unheard of'], 2)),
  capabilities_any: sometimes(some([...POOLS.capabilities, 'model-99'], 5), 2),
  capabilities_all: rarely(some([...POOLS.capabilities, 'model-99'], 2)),
  gpu_name_any: rarely(some(['rtx 4090', 'NVIDIA  H100', 'radeon rx 7900', 'Voodoo'], 3)),
  exclude_miners: rarely(some(['m0', 'm1', 'm2', 'm5', 'nobody'], 4)),
});

const hints = fc.record({
  region: rarely(fc.constantFrom('eu', 'eu-west', 'EU-West-1', 'eu-w', 'us', 'us-east-2', 'ap', 'mars')),
  max_price: rarely(
    fc.constantFrom('0', '0.00000001', '0.1', '0.3', '0.5', '0.505', '0.51', '0.9', '1', '50', '1000'),
  ),
  deadline_ms: rarely(fc.constantFrom(0, 1, 20, 21, 40, 100, 300, 2500, 100_000)),
  strategy: sometimes(fc.constantFrom('balanced', 'cheapest', 'fastest', 'trusted')),
});

const withoutUnset = (object: object) =>
  Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));

/** Valid match requests of every shape, over the pools that fleets draw from. */
export const matchRequests: fc.Arbitrary<MatchInput> = fc
  .record({
    job_id: fc.integer({ min: 0, max: 999 }).map((n) => `job-${n}`),
    requirements: requirements.map(withoutUnset),
    hints: hints.map(withoutUnset),
    top_k: fc.constantFrom(1, 2, 3, 5, 10, 100),
  })
  .map((request) => v.parse(MatchRequest, request));
