/**
 * Whether a miner may run a job: what jobs need and what miners have, brought to the same form. The clauses are written twice: here, to choose whom
 * to wake, and in SQL (`fitsSql`), which decides; a test compares the two.
 */
import { type SQL, sql } from 'drizzle-orm';
import { jobs } from '../jobs/tables.ts';

/** What a job asks for; null asks for nothing. Texts are in lower case. */
export interface JobNeeds {
  readonly gpu: string | null;
  /** As `cudaNumber`; 0 is satisfied by any CUDA. */
  readonly cuda: number | null;
  readonly vram_mb: number | null;
  /** Any of them. */
  readonly models: readonly string[] | null;
  /** Exact, or a dash prefix: `eu` takes `eu-west`. */
  readonly region: string | null;
  /** Decimal string. */
  readonly max_price: string | null;
}

/** What a miner has to offer. */
export interface MinerOffer {
  readonly gpus: readonly string[];
  /** The largest of its GPUs. */
  readonly vram_mb: number;
  /** -1 without CUDA. */
  readonly cuda: number;
  readonly models: readonly string[];
  readonly region: string | null;
  /** Decimal string; null when unknown, which satisfies no maximum. */
  readonly price: string | null;
}

/** The constraints of a request, as validated. */
export interface Constraints {
  readonly gpu?: string | undefined;
  readonly cuda?: string | boolean | undefined;
  readonly min_vram_gb?: number | undefined;
  readonly models?: readonly string[] | undefined;
  readonly region?: string | undefined;
  readonly max_price?: string | undefined;
}

/** The capabilities of a registration, as validated; keys beside these are kept and not compared. */
export interface Capabilities {
  readonly gpus?:
    | readonly { readonly name?: string | undefined; readonly memory_mb?: number | undefined }[]
    | undefined;
  readonly cuda?: string | boolean | number | undefined;
  readonly models?: readonly string[] | undefined;
  readonly price?: string | undefined;
}

const MB_PER_GB = 1024;
const ANY_CUDA = 0;
const NO_CUDA = -1;

export function needsOf(constraints: Constraints): JobNeeds {
  const { gpu, cuda, min_vram_gb, models, region, max_price } = constraints;
  const askedCuda = cuda === undefined || cuda === false ? null : cudaNumber(cuda);
  return {
    gpu: gpu === undefined ? null : fold(gpu),
    cuda: askedCuda,
    vram_mb: min_vram_gb === undefined ? null : Math.ceil(min_vram_gb * MB_PER_GB),
    models: models === undefined || models.length === 0 ? null : models.map(fold),
    region: region === undefined ? null : fold(region),
    max_price: max_price ?? null,
  };
}

export function offerOf(capabilities: Capabilities, region: string | null): MinerOffer {
  const { gpus = [], cuda, models = [], price } = capabilities;
  return {
    gpus: gpus.flatMap(({ name }) => (name === undefined ? [] : [fold(name)])),
    vram_mb: Math.max(0, ...gpus.map(({ memory_mb }) => memory_mb ?? 0)),
    cuda: cuda === undefined || cuda === false ? NO_CUDA : cudaNumber(cuda),
    models: models.map(fold),
    region: region === null ? null : fold(region),
    price: price ?? null,
  };
}

/** Whether the miner satisfies every need. */
export function fits(needs: JobNeeds, offer: MinerOffer): boolean {
  return (
    (needs.gpu === null || offer.gpus.includes(needs.gpu)) &&
    (needs.cuda === null || offer.cuda >= needs.cuda) &&
    (needs.vram_mb === null || offer.vram_mb >= needs.vram_mb) &&
    (needs.models === null || needs.models.some((model) => offer.models.includes(model))) &&
    (needs.region === null || isRegionWithin(offer.region, needs.region)) &&
    (needs.max_price === null || (offer.price !== null && isAtMost(offer.price, needs.max_price)))
  );
}

/**
 * Whether a row of `jobs` may be given out now to any miner that fits. Only the index of the queue (`idx_jobs_queued`) has the state in these words,
 * and so the queue is walked in its order; whatever else finds queued jobs would have to read and sort them all.
 */
export const IS_OPEN = sql.raw(
  "state is not distinct from 'QUEUED' and open_at <= now() and expires_at > now()",
);

/** An offer as the parameters of a statement; lists are JSON. */
export interface OfferValues extends Record<string, unknown> {
  readonly gpus: string;
  readonly vramMb: number;
  readonly cuda: number;
  readonly models: string;
  readonly region: string | null;
  readonly price: string | null;
}

export function offerValues(offer: MinerOffer): OfferValues {
  return {
    gpus: JSON.stringify(offer.gpus),
    vramMb: Math.floor(offer.vram_mb),
    cuda: offer.cuda,
    models: JSON.stringify(offer.models),
    region: offer.region,
    price: offer.price,
  };
}

/** In place of the values of an offer, in a statement that is built once. */
export const OFFER_PLACEHOLDERS: Record<keyof OfferValues, unknown> = {
  gpus: sql.placeholder('gpus'),
  vramMb: sql.placeholder('vramMb'),
  cuda: sql.placeholder('cuda'),
  models: sql.placeholder('models'),
  region: sql.placeholder('region'),
  price: sql.placeholder('price'),
};

/** `fits` as a condition on a row of `jobs`. */
export function fitsSql({
  gpus,
  vramMb,
  cuda,
  models,
  region,
  price,
}: Record<keyof OfferValues, unknown>): SQL {
  return sql`(${jobs.needGpu} is null or ${jobs.needGpu} in (select jsonb_array_elements_text(${gpus}::jsonb)))
    and (${jobs.needCuda} is null or ${jobs.needCuda} <= ${cuda}::int)
    and (${jobs.needVramMb} is null or ${jobs.needVramMb} <= ${vramMb}::int)
    and (${jobs.needModels} is null
      or ${jobs.needModels} && array(select jsonb_array_elements_text(${models}::jsonb)))
    and (${jobs.needRegion} is null or ${region}::text = ${jobs.needRegion}
      or starts_with(${region}::text, ${jobs.needRegion} || '-'))
    and (${jobs.needMaxPrice} is null or ${price}::numeric <= ${jobs.needMaxPrice})`;
}

/**
 * A CUDA version as a number that grows with it: 12.4 is 12004. A newer one runs what an older one does. `true` and what is no version stand for
 * any CUDA.
 */
function cudaNumber(cuda: string | boolean | number): number {
  const [, major, minor = '0'] = /^v?(\d{1,3})(?:\.(\d{1,3}))?/.exec(String(cuda)) ?? [];
  return major === undefined ? ANY_CUDA : Number(major) * 1000 + Number(minor);
}

function isRegionWithin(region: string | null, asked: string): boolean {
  return region !== null && (region === asked || region.startsWith(`${asked}-`));
}

/** Compares plain decimals exactly, without leading zeros. */
function isAtMost(price: string, max: string): boolean {
  const [whole = '', fraction = ''] = price.split('.');
  const [maxWhole = '', maxFraction = ''] = max.split('.');
  if (whole.length !== maxWhole.length) return whole.length < maxWhole.length;
  if (whole !== maxWhole) return whole < maxWhole;
  const width = Math.max(fraction.length, maxFraction.length);
  return fraction.padEnd(width, '0') <= maxFraction.padEnd(width, '0');
}

function fold(text: string): string {
  return text.toLowerCase();
}
