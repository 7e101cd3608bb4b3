import { createHash } from 'node:crypto';
import type { RegisterRequest } from '../sdk/types.ts';
import { CAPABILITIES, MACHINE_CLASSES, type MachineClass, REGIONS, TAGS } from './fleet-catalog.ts';
import { between, normal, pick, type Random, seededRandom, weightedIndex } from './random.ts';

/** `mixed`: hardware, regions, prices and popularity as in a real pool. `equal`: all the same but for id and address. */
export type FleetKind = 'mixed' | 'equal';

export interface FleetOptions {
  readonly seed: number;
  readonly kind?: FleetKind;
  /** Starts every miner id. */
  readonly idPrefix?: string;
  /** Carried by every miner, beside its own. */
  readonly tag?: string;
}

/** A made-up miner: what it registers, and how it behaves in a simulation. */
export interface FleetMiner {
  /** A registration without its key; every field is given. */
  readonly profile: FleetProfile;
  /** Median of what it says of its own latency, ms. */
  readonly latency_ms: number;
  /** How many of its jobs fail, and how many it does not take, as shares. */
  readonly failure_rate: number;
  readonly rejection_rate: number;
}

export type FleetProfile = Required<
  Pick<
    RegisterRequest,
    | 'miner_id'
    | 'addr'
    | 'proto'
    | 'gpu_vram'
    | 'gpu_name'
    | 'gpu_count'
    | 'cpu_cores'
    | 'ram_gb'
    | 'price_token_per_ksec'
    | 'max_parallel'
    | 'region'
  >
> & { readonly tags: string[]; readonly capabilities: string[] };

/** Exponent of the popularity of capabilities: the n-th most popular is offered in proportion to n^-s. */
const ZIPF_EXPONENT = 1.1;

const MAX_CAPABILITIES = 24;
const PRICE_SPREAD = 0.22;
const LATENCY_SPREAD = 0.3;
const FLAKY_SHARE = 0.1;
const PORT = 9000;

const pickClass = weightedIndex(MACHINE_CLASSES.map(({ weight }) => weight));
const pickRegion = weightedIndex(REGIONS.map(({ weight }) => weight));
const pickCapability = weightedIndex(CAPABILITIES.map((_, n) => (n + 1) ** -ZIPF_EXPONENT));

/**
 * The miner at `index` of a fleet. It depends on the seed and the index alone, so a fleet of 1,000 is the beginning of the fleet of
 * 100,000 with the same seed, and the same on every machine.
 */
export function fleetMiner(index: number, options: FleetOptions): FleetMiner {
  const random = seededRandom(options.seed, index);
  const identity = {
    miner_id: `${options.idPrefix ?? 'sim'}-${String(index).padStart(6, '0')}`,
    // 10.0.0.0/8: private, so that nobody is called by mistake.
    addr: `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}:${PORT}`,
    proto: 'grpc',
  };
  const miner = options.kind === 'equal' ? equalMiner(identity) : mixedMiner(identity, random);
  if (options.tag === undefined) return miner;
  return { ...miner, profile: { ...miner.profile, tags: [...miner.profile.tags, options.tag] } };
}

/** The first `count` miners of a fleet. */
export function makeFleet(count: number, options: FleetOptions): FleetMiner[] {
  return Array.from({ length: count }, (_, index) => fleetMiner(index, options));
}

/**
 * The key of a made-up miner, the same each time, so that `simulate` can go on with what `seed` registered. Whoever knows the seed
 * knows it: for pools without real miners only.
 */
export function fleetKey(seed: number, minerId: string): string {
  const digest = createHash('sha256').update(`pool-hub fleet ${seed} ${minerId}`).digest('base64url');
  return `phk_${digest}`;
}

type Identity = Pick<FleetProfile, 'miner_id' | 'addr' | 'proto'>;

function mixedMiner(identity: Identity, random: Random): FleetMiner {
  const machine = MACHINE_CLASSES[pickClass(random)] as MachineClass;
  const region = REGIONS[pickRegion(random)] as (typeof REGIONS)[number];
  const gpu_count = pick(random, machine.gpu_counts);
  const places = Math.max(1, gpu_count);
  const flaky = random() < FLAKY_SHARE;
  return {
    profile: {
      ...identity,
      gpu_name: machine.gpu_name,
      gpu_vram: machine.vram_gb,
      gpu_count,
      cpu_cores: pick(random, machine.cpu_cores),
      ram_gb: pick(random, machine.ram_gb),
      price_token_per_ksec: (machine.price * Math.exp(PRICE_SPREAD * normal(random))).toFixed(4),
      max_parallel: places * between(random, 1, 4),
      region: region.name,
      tags: tagsOf(machine, region.name, random),
      capabilities: capabilitiesOf(machine, random),
    },
    latency_ms: Math.round(
      (machine.latency_ms + region.latency_ms) * Math.exp(LATENCY_SPREAD * normal(random)),
    ),
    failure_rate: flaky ? 0.25 : 0.02 * random(),
    rejection_rate: flaky ? 0.1 : 0.02 * random(),
  };
}

function equalMiner(identity: Identity): FleetMiner {
  return {
    profile: {
      ...identity,
      gpu_name: 'NVIDIA GeForce RTX 4090',
      gpu_vram: 24,
      gpu_count: 1,
      cpu_cores: 16,
      ram_gb: 64,
      price_token_per_ksec: '0.4500',
      max_parallel: 2,
      region: 'eu-west-1',
      tags: ['verified'],
      capabilities: CAPABILITIES.slice(0, 4).map(({ name }) => name),
    },
    latency_ms: 50,
    failure_rate: 0,
    rejection_rate: 0,
  };
}

function tagsOf(machine: MachineClass, region: string, random: Random): string[] {
  const fits = (tag: string) => tag !== 'nvlink' || machine.gpu_counts.includes(8);
  const tags = TAGS.filter(({ name, pct }) => random() * 100 < pct && fits(name)).map(({ name }) => name);
  // `eu-west` for `eu-west-1`: what coordinators ask for who know tags but not regions.
  return [...tags, region.replace(/-\d+$/, '')];
}

/** What fits into the card's memory, more of it on larger ones. */
function capabilitiesOf(machine: MachineClass, random: Random): string[] {
  const wanted = Math.min(MAX_CAPABILITIES, between(random, 1, 4 + Math.ceil(machine.vram_gb / 8)));
  const found = new Set<string>();
  for (let n = 0; n < wanted; n += 1) {
    const { name, vram_gb } = CAPABILITIES[pickCapability(random)] as (typeof CAPABILITIES)[number];
    if (vram_gb <= machine.vram_gb) found.add(name);
  }
  return [...found];
}
