import { startOf } from '../../src/hub/matching/compile.ts';
import type { FoundSet } from '../../src/hub/matching/types.ts';
import type { Weights } from '../../src/platform/settings.ts';
import type { PoolMiner } from './pool.ts';
import type { ShapeQuery } from './shapes.ts';

/** Sums of the same numbers in another order. */
export const ROUNDING = 1e-12;
/** Where the walk says that it sampled a crowd, prices in it differ by less than this share: an eighth of a bin of ratio 1.25. */
const TIE_SHARE = 1.25 ** (1 / 8) - 1;

interface Scored {
  readonly miner: PoolMiner;
  readonly score: number;
}

/** Every miner that a query matches, with its score; what any index must agree with. */
export class BruteForce {
  readonly feasible: readonly Scored[];
  readonly #byId: ReadonlyMap<string, Scored>;
  readonly #weights: Weights;
  readonly #slots: number;
  readonly #topK: number;

  /** @param priceReference the price at which price_norm is 0 when the query has no max_price */
  constructor(pool: readonly PoolMiner[], query: ShapeQuery, weights: Weights, priceReference: number) {
    this.#weights = weights;
    this.#slots = pool.length;
    this.#topK = query.top_k;
    const top = query.max_price ?? priceReference;
    this.feasible = pool
      .filter((miner) => matches(miner, query))
      .map((miner) => ({ miner, score: scoreOf(miner, query, weights, top) }));
    this.#byId = new Map(this.feasible.map((scored) => [scored.miner.id, scored]));
  }

  /** The best for a job, best first: equal scores in the order of their slots from where the job starts. */
  best(jobId: string): Scored[] {
    const start = Math.floor(startOf(jobId) * this.#slots);
    const distance = ({ miner }: Scored) => (miner.slot - start + this.#slots) % this.#slots;
    const best: Scored[] = [];
    for (const scored of this.feasible) {
      const isBetter = (other: Scored) =>
        scored.score > other.score || (scored.score === other.score && distance(scored) < distance(other));
      if (best.length === this.#topK && !isBetter(best[best.length - 1] as Scored)) continue;
      const at = best.findIndex(isBetter);
      best.splice(at < 0 ? best.length : at, 0, scored);
      if (best.length > this.#topK) best.pop();
    }
    return best;
  }

  /** Whether an answer is the exact one for a job: the same miners in the same order with the same scores, and the same count. */
  confirms(found: FoundSet, jobId: string): boolean {
    const best = this.best(jobId);
    if (found.truncated || found.candidates.length !== best.length) return false;
    const countFits = found.loose
      ? found.feasible >= this.feasible.length
      : found.feasible === this.feasible.length;
    return countFits && found.candidates.every((candidate, i) => this.#fits(candidate, best[i], found.tied));
  }

  #fits(
    { minerId, score }: FoundSet['candidates'][number],
    wanted: Scored | undefined,
    tied: boolean,
  ): boolean {
    const known = this.#byId.get(minerId);
    if (known === undefined || wanted === undefined || Math.abs(known.score - score) > ROUNDING) return false;
    if (wanted.miner.id === minerId) return true;
    // Among equal scores the order is fixed, unless the answer itself says that it sampled a crowd.
    if (tied) return score >= wanted.score - this.#weights.price * TIE_SHARE - ROUNDING;
    return known.score !== wanted.score && Math.abs(known.score - wanted.score) <= ROUNDING;
  }
}

function matches(miner: PoolMiner, query: ShapeQuery): boolean {
  const { accel, tags_any, capabilities_any, gpu_name_any, min_vram_gb, region, max_price } = query;
  return (
    miner.free &&
    (min_vram_gb === undefined || miner.vramGb >= min_vram_gb) &&
    (max_price === undefined || miner.price <= max_price) &&
    (region === undefined || miner.region === region || miner.region.startsWith(`${region}-`)) &&
    (gpu_name_any === undefined || gpu_name_any.includes(miner.gpuKey)) &&
    (accel === undefined || accel.some((name) => miner.accel.includes(name))) &&
    (tags_any === undefined || tags_any.some((tag) => miner.tags.includes(tag))) &&
    (capabilities_any === undefined || capabilities_any.some((name) => miner.capabilities.includes(name)))
  );
}

function scoreOf(miner: PoolMiner, { capabilities_any }: ShapeQuery, weights: Weights, top: number): number {
  const asked = new Set(capabilities_any);
  const had = [...asked].filter((name) => miner.capabilities.includes(name)).length;
  const capFit = asked.size === 0 ? 1 : had / asked.size;
  const priceNorm = top > 0 ? Math.max(0, 1 - miner.price / top) : Number(miner.price <= 0);
  return weights.cap * capFit + weights.price * priceNorm + miner.staticScore;
}
