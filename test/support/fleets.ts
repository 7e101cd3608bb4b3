import { normaliseGpuName } from '../../src/hub/miners/profile.ts';
import type { MinerProfile } from '../../src/hub/miners/types.ts';
import { Random } from './random.ts';

/** What fleets and requests draw from, so that they meet. Edges of bins and digits among them. */
export const POOLS = {
  capabilities: Array.from({ length: 10 }, (_, i) => `model-${i}`),
  tags: ['fast', 'cheap', 'eu-west', 'task:embed', 'task:chat', 'odd "tag" {x}'],
  accels: ['cuda', 'rocm', 'metal', 'cpu'],
  gpus: ['', 'NVIDIA RTX 4090', 'H100', 'Radeon RX 7900', 'A100'],
  regions: ['eu', 'eu-west', 'eu-west-1', 'us-east-2', 'ap'],
  sizesGb: [0, 0.5, 8, 12.5, 16, 24, 24.25, 24.5, 24.75, 63, 64, 65, 80, 127.9, 141, 4095, 5000],
  prices: [
    '0',
    '0.00000001',
    '0.000001',
    '0.1',
    '0.11',
    '0.3',
    '0.5',
    '0.505',
    '0.51',
    '0.52',
    '0.8',
    '1',
    '1.25',
    '7',
    '99.5',
  ],
  latenciesMs: [0, 0.5, 1, 1.25, 20, 21, 35.5, 80, 120, 500, 2500, 60_000],
  places: [1, 2, 3, 4, 8],
} as const;

export const FLEET_STYLES = [
  'mixed',
  'zipf',
  'equal',
  'equal but for price',
  'equal but for memory',
  'one price',
  'brand new',
  'one region',
  'one miner',
  'none',
] as const;

/** A fleet is told by its style, its size and a seed. */
export interface FleetSpec {
  readonly style: (typeof FLEET_STYLES)[number];
  readonly size: number;
  readonly seed: number;
}

/** A miner and what is known of it when it enters. */
export interface FleetMiner {
  readonly id: string;
  readonly profile: MinerProfile;
  readonly latencyMs: number | undefined;
  /** Above the prior of 2/2. */
  readonly completed: number;
  readonly failed: number;
}

/** The miners of a fleet, always the same for the same spec. */
export function fleetOf({ style, size, seed }: FleetSpec): FleetMiner[] {
  const random = new Random(seed);
  const count = style === 'none' ? 0 : style === 'one miner' ? 1 : size;
  const one = randomMiner(random, 'm0', style);
  return Array.from({ length: count }, (_, i) => {
    const id = `m${i}`;
    const drawn = randomMiner(random, id, style);
    if (style === 'equal') return { ...one, id };
    if (style === 'equal but for price') {
      return { ...one, id, profile: { ...one.profile, base_price: drawn.profile.base_price } };
    }
    if (style === 'equal but for memory') {
      // All within one whole GB, which is as far as the index tells them apart.
      return { ...one, id, profile: { ...one.profile, gpu_vram_gb: 24 + random.below(8) / 8 } };
    }
    if (style === 'one price') {
      return { ...drawn, profile: { ...drawn.profile, base_price: one.profile.base_price } };
    }
    if (style === 'one region')
      return { ...drawn, profile: { ...drawn.profile, region: one.profile.region } };
    if (style === 'brand new') return { ...drawn, latencyMs: undefined, completed: 0, failed: 0 };
    return drawn;
  });
}

function randomMiner(random: Random, id: string, style: FleetSpec['style']): FleetMiner {
  return {
    id,
    profile: randomProfile(random, style),
    latencyMs: random.chance(0.8) ? random.pick(POOLS.latenciesMs) : undefined,
    completed: random.below(6),
    failed: random.below(4),
  };
}

/** A random profile, normalised as the edge does it. */
export function randomProfile(random: Random, style: FleetSpec['style'] = 'mixed'): MinerProfile {
  const gpu_name = random.pick(POOLS.gpus);
  return {
    addr: '10.0.0.1:9000',
    proto: 'grpc',
    gpu_name,
    gpu_key: normaliseGpuName(gpu_name),
    gpu_count: gpu_name === '' ? 0 : 1,
    gpu_vram_gb: random.chance(0.15) ? '' : random.pick(POOLS.sizesGb),
    ram_gb: random.chance(0.15) ? '' : random.pick(POOLS.sizesGb),
    cpu_cores: 8,
    max_parallel: random.pick(POOLS.places),
    base_price: randomPrice(random),
    tags: random.some(POOLS.tags, 0.35),
    capabilities: randomCapabilities(random, style),
    accel: random.some(POOLS.accels, 0.4),
    region: random.pick(POOLS.regions),
    derived: [],
    tenant_id: '',
    wallet_address: '',
  };
}

/** A price from the pool, or any with up to eight decimals. */
export function randomPrice(random: Random): string {
  return random.chance(0.6) ? random.pick(POOLS.prices) : (random.next() * 2).toFixed(6);
}

function randomCapabilities(random: Random, style: FleetSpec['style']): string[] {
  if (style !== 'zipf') return random.some(POOLS.capabilities, 0.4);
  // The n-th most popular is had by 1/n of the fleet.
  return POOLS.capabilities.filter((_, i) => random.chance(1 / (i + 1)));
}
