/**
 * What the readable hash of a miner implies: derived fields, index terms, packed record. Written from the rules of the registry, not
 * from its scripts, and pure, so that `registry verify` holds the scripts to the rules.
 */
import type { MinerHash } from '../miners/types.ts';

/** A named set of weights; the order of the list is the order of the steps in bins and records. */
export interface Strategy {
  readonly name: string;
  readonly latency: number;
  readonly trust: number;
  readonly load: number;
}

/** Price bins: ratio 1.25 from this upper edge of the lowest, tokens per 1,000 s. */
const PRICE_UNIT = 1e-6;
/** Latency and eta bins: ratio 1.25 from this upper edge of the lowest, ms. */
const ETA_UNIT = 1;
const BIN_RATIO = 1.25;
const TOP_BIN = 127;
const EIGHTHS = 8;
/** Steps of the request-independent part of the score, and the base of their two digits. */
const STEPS = 1024;
const STEP_BASE = 32;
/** Sizes in whole GB, as two digits of base 64. */
const SIZE_BASE = 64;
const TOP_SIZE = SIZE_BASE * SIZE_BASE - 1;
const OBSERVED_FROM_SAMPLES = 3;
/** A record has room for the steps of so many. */
const MAX_STRATEGIES = 8;
/** Two mathematics libraries may disagree about the last bit of a logarithm: a value this near to an edge may lie on either side. */
const EDGE = 1e-12;

/** Places of the bins before the steps, in order. */
const BIN_NAMES = [
  'match',
  'state',
  'busy',
  'draining',
  'full',
  'price',
  'price_fine',
  'eta',
  'latency',
] as const;
type BinName = (typeof BIN_NAMES)[number];

/** Numbers that follow from the hash. Unknown latency and eta are null. */
export interface Derived {
  readonly price: number;
  readonly latencyMs: number | null;
  readonly etaMs: number | null;
  /** Places that are neither queued for nor reserved. */
  readonly free: number;
  readonly matchable: boolean;
  /** Static step for each strategy, 0..1023. */
  readonly steps: readonly number[];
}

const numberOr = (text: string | undefined, otherwise: number): number =>
  text === undefined || text === '' ? otherwise : Number(text);

/**
 * Prices that the miner may have at `nowMs`: a live override or its own, never above its cap. An override that is over may still count,
 * until its end has been noticed.
 */
export function possiblePrices(hash: MinerHash, nowMs: number): number[] {
  const capped = (price: string | undefined) =>
    Math.min(Number(price), numberOr(hash.price_cap, Number.POSITIVE_INFINITY));
  if ((hash.price_override ?? '') === '') return [capped(hash.base_price)];
  const over = nowMs >= numberOr(hash.price_override_until_ms, Number.POSITIVE_INFINITY);
  return over ? [capped(hash.price_override), capped(hash.base_price)] : [capped(hash.price_override)];
}

/** Latency that counts: observed through feedback once there are samples enough, else self-reported, else unknown. */
function effectiveLatency(hash: MinerHash): number | null {
  const observed = numberOr(hash.observed_samples, 0) >= OBSERVED_FROM_SAMPLES;
  const text = observed ? hash.observed_latency_ms : hash.self_latency_ms;
  return text === undefined || text === '' ? null : Number(text);
}

/** Derives what follows from the hash; price, latency norm and trust count as stored. */
export function derive(hash: MinerHash, strategies: readonly Strategy[]): Derived {
  const places = Number(hash.max_parallel);
  const taken = numberOr(hash.queue_len, 0) + numberOr(hash.reserved, 0);
  const free = Math.max(0, places - taken);
  const latencyMs = effectiveLatency(hash);
  const norm = Number(hash.latency_norm);
  const trust = Number(hash.trust);
  const load = free / (places + 1);
  return {
    price: Number(hash.price),
    latencyMs,
    etaMs: latencyMs === null ? null : latencyMs * (1 + taken / places),
    free,
    matchable: free > 0 && hash.busy !== '1' && hash.draining === 'no',
    steps: strategies.map((s) => {
      const sum = s.latency + s.trust + s.load;
      const share = sum > 0 ? (s.latency * norm + s.trust * trust + s.load * load) / sum : 0;
      return Math.floor(share * (STEPS - 1) + 0.5);
    }),
  };
}

/** The bin of a value and its eighth. */
function logBin(value: number, unit: number): [bin: number, eighth: number] {
  if (value <= unit) return [0, 0];
  const x = Math.log(value / unit) / Math.log(BIN_RATIO);
  const bin = Math.floor(x) + 1;
  return bin >= TOP_BIN ? [TOP_BIN, 0] : [bin, Math.floor((x - Math.floor(x)) * EIGHTHS)];
}

/** The bins that a value may lie in: one, or two when it lies on an edge. */
function possibleBins(value: number, unit: number): [bin: number, eighth: number][] {
  const found = [1 - EDGE, 1, 1 + EDGE].map((factor) => logBin(value * factor, unit));
  return found.filter((a, i) => found.findIndex((b) => a[0] === b[0] && a[1] === b[1]) === i);
}

/** Names the bins of the hash that do not follow from its other fields; empty when all do. */
export function wrongBins(hash: MinerHash, derived: Derived): string[] {
  const stored = (hash.bins ?? '').split(',').map(Number);
  if (stored.length !== BIN_NAMES.length + derived.steps.length) return ['bins'];
  const online = hash.state === 'online';
  const at = (name: BinName) => stored[BIN_NAMES.indexOf(name)];
  const exact: [BinName, number][] = [
    ['match', derived.matchable ? (online ? 1 : 2) : 0],
    ['state', online ? 1 : 2],
    ['busy', hash.busy === '1' ? 1 : 0],
    ['draining', hash.draining === 'no' ? 0 : 1],
    ['full', derived.free === 0 ? 1 : 0],
  ];
  const wrong: string[] = exact.flatMap(([name, value]) => (at(name) === value ? [] : [name]));
  const inPriceBin = possibleBins(derived.price, PRICE_UNIT).some(
    ([bin, eighth]) => bin === at('price') && eighth === at('price_fine'),
  );
  if (!inPriceBin) wrong.push('price');
  if (!inTimeBin(at('eta'), derived.etaMs)) wrong.push('eta');
  if (!inTimeBin(at('latency'), online ? derived.latencyMs : null)) wrong.push('latency');
  derived.steps.forEach((step, i) => {
    if (stored[BIN_NAMES.length + i] !== step) wrong.push(`step ${i}`);
  });
  return wrong;
}

function inTimeBin(bin: number | undefined, value: number | null): boolean {
  if (value === null) return bin === -1;
  return possibleBins(value, ETA_UNIT).some(([possible]) => possible === bin);
}

/** The bucket of the region's latency histogram that the hash says it is counted in; null when in none. */
export function latencyBucket(hash: MinerHash): number | null {
  const bucket = Number((hash.bins ?? '').split(',')[BIN_NAMES.indexOf('latency')]);
  return Number.isInteger(bucket) && bucket >= 0 ? bucket : null;
}

/** The fields that the terms of a miner follow from. */
export const TERM_FIELDS = [
  'slot',
  'accel',
  'tags',
  'capabilities',
  'gpu_key',
  'region',
  'gpu_vram_gb',
  'ram_gb',
  'bins',
  'strategies',
] as const;

/** True when both have the same slot and the same terms. */
export function sameTerms(a: MinerHash, b: MinerHash): boolean {
  return TERM_FIELDS.every((name) => a[name] === b[name]);
}

/** All index terms of a miner: those of its profile, and those of its bins as stored. */
export function termsOf(hash: MinerHash, strategies: readonly Strategy[]): Set<string> {
  return new Set([...profileTerms(hash), ...binTerms(hash, strategies)]);
}

function listOf(text: string | undefined): string[] {
  return text === undefined || text === '' ? [] : (JSON.parse(text) as string[]);
}

function profileTerms(hash: MinerHash): string[] {
  const tags = listOf(hash.tags);
  const tasks = tags.filter((tag) => tag.startsWith('task:'));
  const regionParts = (hash.region ?? '').split('-');
  return [
    'all',
    ...listOf(hash.accel).map((accel) => `accel:${accel}`),
    ...tags.map((tag) => `tag:${tag}`),
    ...listOf(hash.capabilities).map((capability) => `cap:${capability}`),
    ...((hash.gpu_key ?? '') === '' ? [] : [`gpu:${hash.gpu_key}`]),
    ...regionParts.map((_, i) => `region:${regionParts.slice(0, i + 1).join('-')}`),
    ...sizeTerms('vram', hash.gpu_vram_gb),
    ...sizeTerms('ram', hash.ram_gb),
    // A miner that declares no task takes any.
    ...(tasks.length > 0 ? tasks : ['task-any']),
  ];
}

function sizeTerms(name: string, text: string | undefined): string[] {
  if (text === undefined || text === '') return [];
  const whole = Math.min(TOP_SIZE, Math.floor(Number(text)));
  return [`${name}-hi:${Math.floor(whole / SIZE_BASE)}`, `${name}-lo:${whole % SIZE_BASE}`];
}

function binTerms(hash: MinerHash, strategies: readonly Strategy[]): string[] {
  const stored = (hash.bins ?? '').split(',').map(Number);
  const at = (name: BinName) => stored[BIN_NAMES.indexOf(name)] ?? -1;
  const flags: [boolean, string][] = [
    [at('match') === 1, 'on'],
    [at('match') === 2, 'degraded'],
    [at('state') === 1, 'state:online'],
    [at('state') === 2, 'state:degraded'],
    [at('busy') === 1, 'busy'],
    [at('draining') === 1, 'draining'],
    [at('full') === 1, 'full'],
    [at('price') >= 0, `price:${at('price')}`],
    [at('price_fine') >= 0, `price-fine:${at('price_fine')}`],
    [at('eta') >= 0, `eta:${at('eta')}`],
  ];
  // Of a hub with other strategies, when that was the last to write the bins.
  const names = hash.strategies?.split(',') ?? strategies.map(({ name }) => name);
  const steps = names.flatMap((name, i): [boolean, string][] => {
    const step = stored[BIN_NAMES.length + i] ?? -1;
    return [
      [step >= 0, `level:${name}:${Math.floor(step / STEP_BASE)}`],
      [step >= 0, `fine:${name}:${step % STEP_BASE}`],
    ];
  });
  return [...flags, ...steps].flatMap(([holds, term]) => (holds ? [term] : []));
}

/** What a match answers of a miner, in the order of the lines of its record. */
const ANSWERED = [
  'addr',
  'proto',
  'price',
  'eta_ms',
  'latency_norm',
  'trust',
  'queue_len',
  'reserved',
  'max_parallel',
] as const;

/** The packed record of a miner: five doubles and room for eight 16-bit steps, little endian, then lines: its id and what a match answers. */
export function recordOf(minerId: string, hash: MinerHash, derived: Derived): Buffer {
  const doubles = [
    Number(hash.lease_until_ms),
    derived.price,
    numberOr(hash.gpu_vram_gb, -1),
    numberOr(hash.ram_gb, -1),
    derived.etaMs ?? -1,
  ];
  const numbers = Buffer.alloc(doubles.length * 8 + MAX_STRATEGIES * 2);
  doubles.forEach((value, i) => {
    numbers.writeDoubleLE(value, i * 8);
  });
  derived.steps.forEach((step, i) => {
    numbers.writeUInt16LE(step, doubles.length * 8 + i * 2);
  });
  const lines = [minerId, ...ANSWERED.map((field) => hash[field] ?? '')];
  return Buffer.concat([numbers, Buffer.from(lines.join('\n'))]);
}
