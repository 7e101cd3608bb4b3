import type * as v from 'valibot';
import type { ExplainRequest, MatchRequest } from './schema.ts';

/** A match request after validation: defaults applied, prices as decimal strings. */
export type MatchInput = v.InferOutput<typeof MatchRequest>;

/** The same, with the miner whose failing clauses are asked for. */
export type ExplainInput = v.InferOutput<typeof ExplainRequest>;

/** A miner that can do the job, as the match script found it. */
export interface Found {
  minerId: string;
  shard: number;
  /** Past its lease but inside the grace period: ranked after every online candidate, at half its score. */
  degraded: boolean;
  /** [0, 1]; of a degraded candidate already halved. */
  score: number;
  /** Share of capabilities_any that it has. */
  capFit: number;
  priceNorm: number;
  latencyNorm: number;
  trust: number;
  /** free / (max_parallel + 1). */
  loadNorm: number;
  /**
   * The tie break, smallest first: the distance of its slot from the job's starting slot, as a share of the shard; among
   * equals of several shards see merge.ts.
   */
  turn: number;
  addr: string;
  proto: string;
  /** Decimal string, tokens per 1,000 s. */
  price: string;
  etaMs: number | null;
}

/** What the match scripts of all shards found together. */
export interface FoundSet {
  candidates: Found[];
  /** Miners that satisfy every clause. */
  feasible: number;
  /** True when a limit cut so crowded a bin that `feasible` may count some miners above the limit. */
  loose: boolean;
  /** True when the order inside one price eighth (2.8%) was sampled. */
  tied: boolean;
  /** True when the work budget ended the walk. */
  truncated: boolean;
  recordsRead: number;
}

/** One clause of a request against the live pool. */
export interface ClauseCount {
  clause: string;
  /** Available miners (online or degraded, with a free place) that satisfy it. */
  have: number;
  /** Available miners that would match if this clause alone were dropped. */
  if_dropped: number;
}

/** Why a request matches as many as it does. */
export interface Explanation {
  registered: number;
  online: number;
  degraded: number;
  /** Online or degraded, not busy, not draining, with a free place. */
  available: number;
  matchable: number;
  feasible: number;
  clauses: ClauseCount[];
}
