import { createHash } from 'node:crypto';
import type { MinerProfile } from './types.ts';

/** What a registration says of the hardware, before defaults are applied. */
export interface ProfileInput {
  addr: string;
  proto: string;
  gpu_name?: string | undefined;
  gpu_count?: number | undefined;
  gpu_vram_gb?: number | undefined;
  ram_gb?: number | undefined;
  cpu_cores?: number | undefined;
  max_parallel: number;
  base_price: string;
  tags: string[];
  capabilities: string[];
  accel?: string[] | undefined;
  region?: string | undefined;
  tenant_id?: string | undefined;
  wallet_address?: string | undefined;
}

/** Accelerator APIs that are recognised among tags and capabilities. */
const ACCELERATORS = ['cuda', 'rocm', 'metal', 'vulkan', 'opencl', 'oneapi', 'tpu', 'cpu'] as const;
const VENDOR_WORDS = new Set(['nvidia', 'geforce', 'amd', 'radeon', 'tesla', 'intel', 'apple']);
const NVIDIA =
  /\b(nvidia|geforce|rtx|gtx|tesla|quadro|titan|jetson|[abhlv]\d{2,3}|gh\d{3}|gb\d{3}|t4|p100|p40)\b/i;
const AMD = /\b(amd|radeon|instinct|mi\d{2,3}[a-z]?|rx \d{3,4})\b/i;
const APPLE = /\bapple\b|^m[1-9]( (pro|max|ultra))?$/i;

/**
 * The name by which GPUs are compared: lower case, single spaces, without the words of the vendor, so that
 * "NVIDIA GeForce RTX 4090" and "rtx 4090" are the same card.
 */
export function normaliseGpuName(name: string): string {
  const words = name.toLowerCase().split(/\s+/).filter(Boolean);
  const told = words.filter((word) => !VENDOR_WORDS.has(word));
  return (told.length > 0 ? told : words).join(' ');
}

/** What accel and region of a miner that names none follow from. */
interface Traits {
  gpu_name: string;
  tags: readonly string[];
  capabilities: readonly string[];
}

/** Accelerators of a miner that names none: known names among tags and capabilities, else by the GPU's family, else `cpu`. */
export function deriveAccel(
  gpuName: string,
  tags: readonly string[],
  capabilities: readonly string[],
): string[] {
  const told = new Set([...tags, ...capabilities].map((value) => value.toLowerCase()));
  const named = ACCELERATORS.filter((name) => told.has(name) || told.has(`accel:${name}`));
  if (named.length > 0) return named;
  if (APPLE.test(gpuName)) return ['metal'];
  if (AMD.test(gpuName)) return ['rocm'];
  if (NVIDIA.test(gpuName)) return ['cuda'];
  return ['cpu'];
}

/** A tag that names a region as requests may ask for it. */
const REGION_TAG = /^region:([A-Za-z0-9._-]{1,64})$/;

/** Region of a miner that names none: a tag `region:x`, else the default. */
function deriveRegion(tags: readonly string[], defaultRegion: string): string {
  const [named] = tags.flatMap((tag) => REGION_TAG.exec(tag)?.[1] ?? []);
  return (named ?? defaultRegion).toLowerCase();
}

/** Those of accel and region that a miner did not name (`derived`), as they follow from the rest of its profile. */
export function deriveFields(
  derived: readonly string[],
  { gpu_name, tags, capabilities }: Traits,
  defaultRegion: string,
): { accel?: string[]; region?: string } {
  return {
    ...(derived.includes('accel') ? { accel: deriveAccel(gpu_name, tags, capabilities) } : {}),
    ...(derived.includes('region') ? { region: deriveRegion(tags, defaultRegion) } : {}),
  };
}

const unique = (values: readonly string[]): string[] => [...new Set(values)];

/** Applies the defaults of the contract: accel, region, lower case where comparison ignores it, no duplicates. */
export function normaliseProfile(input: ProfileInput, defaultRegion: string): MinerProfile {
  const tags = unique(input.tags);
  const capabilities = unique(input.capabilities);
  const gpuName = input.gpu_name ?? '';
  const derived = [
    ...(input.accel?.length ? [] : ['accel']),
    ...(input.region === undefined ? ['region'] : []),
  ];
  return {
    addr: input.addr,
    proto: input.proto,
    gpu_name: gpuName,
    gpu_key: normaliseGpuName(gpuName),
    gpu_count: input.gpu_count ?? (gpuName === '' ? 0 : 1),
    gpu_vram_gb: input.gpu_vram_gb ?? '',
    ram_gb: input.ram_gb ?? '',
    cpu_cores: input.cpu_cores ?? '',
    max_parallel: input.max_parallel,
    base_price: input.base_price,
    tags,
    capabilities,
    accel: unique((input.accel ?? []).map((name) => name.toLowerCase())),
    region: (input.region ?? '').toLowerCase(),
    derived,
    ...deriveFields(derived, { gpu_name: gpuName, tags, capabilities }, defaultRegion),
    tenant_id: input.tenant_id ?? '',
    wallet_address: input.wallet_address ?? '',
  };
}

/** The profile as the fields of the miner's hash; lists as JSON. */
export function profileFields(profile: Partial<MinerProfile>): string[] {
  return Object.entries(profile).flatMap(([name, value]) => [
    name,
    Array.isArray(value) ? JSON.stringify(value) : String(value),
  ]);
}

const NUMBERS: ReadonlySet<string> = new Set([
  'gpu_count',
  'gpu_vram_gb',
  'ram_gb',
  'cpu_cores',
  'max_parallel',
] satisfies (keyof MinerProfile)[]);
const LISTS: ReadonlySet<string> = new Set([
  'tags',
  'capabilities',
  'accel',
] satisfies (keyof MinerProfile)[]);
const TEXTS: ReadonlySet<string> = new Set([
  'addr',
  'proto',
  'gpu_name',
  'gpu_key',
  'base_price',
  'region',
  'tenant_id',
  'wallet_address',
] satisfies (keyof MinerProfile)[]);

/**
 * The profile in the fields of a miner's hash, as the journal takes it: the JSON that registering wrote, with what changed since.
 * @param fields names and values in turn
 */
export function journalProfile(minerId: string, fields: readonly string[]): string {
  const profile: Record<string, unknown> = { miner_id: minerId };
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const [name, value] = fields.slice(i, i + 2) as [string, string];
    if (NUMBERS.has(name)) profile[name] = value === '' ? '' : Number(value);
    else if (LISTS.has(name)) profile[name] = JSON.parse(value);
    else if (TEXTS.has(name)) profile[name] = value;
  }
  return JSON.stringify(profile);
}

/** Tells whether two profiles differ without keeping both; 16 bytes of SHA-256, hex. */
export function profileDigest(profile: MinerProfile): string {
  return createHash('sha256').update(JSON.stringify(profile)).digest('hex').slice(0, 32);
}
