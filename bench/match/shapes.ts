import { randomBytes } from 'node:crypto';
import type { MatchInput } from '../../src/hub/matching/types.ts';
import { ascending, quantile } from '../support/statistics.ts';
import type { PoolMiner } from './pool.ts';

/** The clauses that the shapes use: brute force and SQL know each of them. */
export interface ShapeQuery {
  readonly accel?: readonly string[];
  readonly tags_any?: readonly string[];
  readonly capabilities_any?: readonly string[];
  readonly gpu_name_any?: readonly string[];
  readonly min_vram_gb?: number;
  readonly region?: string;
  readonly max_price?: number;
  readonly top_k: number;
}

/** A kind of request, with the values that make it what its name says in the fleet at hand. */
export interface Shape {
  readonly name: string;
  readonly query: ShapeQuery;
}

const TOP_K = 3;
const LARGE_K = 50;
/** Fewer miners than this have nothing to choose from. */
const RARE_AT_LEAST = 5;
/** Shares of the fleet that each clause of the unlucky combination may leave, the smallest first. */
const UNLUCKY_SHARES = [0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5];
const TAG_SHARE = 0.3;

/** The strategy of a request that names none; the configuration lists it first. */
export const DEFAULT_STRATEGY = { name: 'balanced', position: 0 } as const;

/** Another job each time: a job's id decides where among equal miners the reading starts. */
export function newJobId(): string {
  return randomBytes(16).toString('hex');
}

/** One request of a shape. */
export function requestOf({ query }: Shape, jobId: string): MatchInput {
  const { region, max_price, top_k, accel, tags_any, capabilities_any, gpu_name_any, min_vram_gb } = query;
  return {
    job_id: jobId,
    requirements: {
      ...(accel && { accel: [...accel] }),
      ...(tags_any && { tags_any: [...tags_any] }),
      ...(capabilities_any && { capabilities_any: [...capabilities_any] }),
      ...(gpu_name_any && { gpu_name_any: [...gpu_name_any] }),
      ...(min_vram_gb !== undefined && { min_vram_gb }),
    },
    hints: {
      ...(region !== undefined && { region }),
      ...(max_price !== undefined && { max_price: String(max_price) }),
    },
    top_k,
  };
}

/**
 * The 13 kinds of requests, with values taken from the fleet itself: the most popular capability is the one that most miners have, a
 * rare one is had by few. In a fleet of equal miners, all of them have whatever anyone has.
 */
export function shapesOf(pool: readonly PoolMiner[]): Shape[] {
  const capabilities = byPopularity(pool.map((miner) => miner.capabilities));
  const gpus = byPopularity(pool.map((miner) => (miner.gpuKey === '' ? [] : [miner.gpuKey])));
  const regions = byPopularity(pool.map((miner) => [miner.region]));
  const accels = byPopularity(pool.map((miner) => miner.accel));
  const tags = byPopularity(pool.map((miner) => miner.tags)).sort(
    (a, b) => Math.abs(a.count - TAG_SHARE * pool.length) - Math.abs(b.count - TAG_SHARE * pool.length),
  );
  const popular = nameAt(capabilities, 0);
  const rareGpu = rarest(gpus);
  const largeRegion = nameAt(regions, 0);
  const vram = ascending(pool.map((miner) => miner.vramGb));
  const price = ascending(pool.map((miner) => miner.price));
  const medianPrice = quantile(price, 0.5);
  // A price of a miner, for a mean of two may have more decimals than a price can have.
  const rareGpuPrices = ascending(
    pool.filter((miner) => miner.gpuKey === rareGpu).map((miner) => miner.price),
  );
  const two = [popular, nameAt(capabilities, 2)];
  const three = [popular, nameAt(capabilities, 1), nameAt(capabilities, 4)];
  const kinds: [name: string, query: Omit<ShapeQuery, 'top_k'>, topK?: number][] = [
    ['popular capability', { capabilities_any: [popular] }],
    [
      'popular capability with minimum VRAM',
      { capabilities_any: [popular], min_vram_gb: quantile(vram, 0.6) },
    ],
    ['rare GPU with price cap', { gpu_name_any: [rareGpu], max_price: quantile(rareGpuPrices, 0.5) }],
    [
      'region, VRAM and price',
      { region: continentOf(largeRegion), min_vram_gb: quantile(vram, 0.5), max_price: medianPrice },
    ],
    ['rare capability', { capabilities_any: [rarest(capabilities)] }],
    [
      'tag, region and capability',
      {
        tags_any: [nameAt(tags, 0)],
        region: nameAt(regions, 1),
        capabilities_any: [nameAt(capabilities, 1)],
      },
    ],
    ['unlucky combination', unluckyCombination(pool, popular, vram, price)],
    ['no capability', { accel: [nameAt(accels, 0)], min_vram_gb: quantile(vram, 0.5) }],
    ['impossible', { capabilities_any: [popular], min_vram_gb: quantile(vram, 1) + 1 }],
    ['two capabilities', { capabilities_any: two }],
    [
      'three capabilities with tags',
      { capabilities_any: three, tags_any: [nameAt(tags, 0), nameAt(tags, 1)] },
    ],
    ['no requirement', {}],
    ['K=50', { capabilities_any: [popular] }, LARGE_K],
  ];
  return kinds.map(([name, query, topK]) => ({ name, query: { ...query, top_k: topK ?? TOP_K } }));
}

/** Large cards are not cheap: many miners satisfy each clause, and hardly any both. The first such pair that leaves a miner. */
function unluckyCombination(
  pool: readonly PoolMiner[],
  capability: string,
  vram: readonly number[],
  price: readonly number[],
): Omit<ShapeQuery, 'top_k'> {
  const pairs = UNLUCKY_SHARES.map((share) => ({
    min_vram_gb: quantile(vram, 1 - share),
    max_price: quantile(price, share),
  }));
  const leavesOne = ({ min_vram_gb, max_price }: (typeof pairs)[number]) =>
    pool.some(
      (miner) =>
        miner.free &&
        miner.vramGb >= min_vram_gb &&
        miner.price <= max_price &&
        miner.capabilities.includes(capability),
    );
  return { capabilities_any: [capability], ...(pairs.find(leavesOne) ?? pairs.at(-1)) };
}

interface Popularity {
  readonly name: string;
  readonly count: number;
}

/** How many have each value, the most popular first; those that are as popular in order of their names. */
function byPopularity(lists: readonly (readonly string[])[]): Popularity[] {
  const counts = new Map<string, number>();
  for (const list of lists) {
    for (const value of list) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const found = [...counts].map(([name, count]) => ({ name, count }));
  return found.sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
}

/** The name at a position, or the last one where there are fewer. */
function nameAt(ranked: readonly Popularity[], position: number): string {
  const found = ranked[Math.min(position, ranked.length - 1)];
  if (found === undefined) throw new Error('the fleet is too poor for the shapes');
  return found.name;
}

function rarest(ranked: readonly Popularity[]): string {
  const rare = ranked.filter(({ count }) => count >= RARE_AT_LEAST);
  return nameAt(rare.length > 0 ? rare : ranked, ranked.length);
}

/** `eu` of `eu-west-1`. */
function continentOf(region: string): string {
  return region.split('-')[0] as string;
}
