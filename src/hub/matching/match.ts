import { invalidAt } from '../../platform/errors.ts';
import { CLAIM_SPARE, type ReservationStore, type Reserved } from './reservations.ts';
import { compareFound, explainNone, explainParts } from './score.ts';
import type { MatchStore } from './store.ts';
import type { Explanation, Found, FoundSet, MatchInput } from './types.ts';

const DEFAULT_STRATEGY = 'balanced';

/** What matching needs; see hub/deps.ts. */
export interface MatchDeps {
  matching: MatchStore;
  reservations: ReservationStore;
  /** Milliseconds that a reservation may last at most. */
  reservationMaxTtlMs: number;
}

/** A candidate as the answer shows it. */
export interface Candidate {
  miner_id: string;
  addr: string;
  proto: string;
  /** [0, 1], six decimals. */
  score: number;
  eta_ms: number | null;
  price: string;
  explain: string;
  state: 'online' | 'degraded';
  reservation_id?: string;
}

export interface MatchOutcome {
  answer: {
    job_id: string;
    candidates: Candidate[];
    explain: string;
    feasible: number;
    truncated: boolean;
    strategy: string;
  };
  /** Set when there is no candidate: the clauses that nobody satisfies, for the rejection counters. */
  explanation?: Explanation;
}

function candidateOf(found: Found, reservationId: string | undefined): Candidate {
  return {
    miner_id: found.minerId,
    addr: found.addr,
    proto: found.proto,
    score: Math.round(found.score * 1e6) / 1e6,
    eta_ms: found.etaMs === null ? null : Math.round(found.etaMs),
    price: found.price,
    explain: explainParts(found),
    state: found.degraded ? 'degraded' : 'online',
    ...(reservationId === undefined ? {} : { reservation_id: reservationId }),
  };
}

/** Position of the strategy that a request asks for. Throws AppError `invalid` for a name that is not configured. */
export function strategyOf(store: MatchStore, input: MatchInput): number {
  const name = input.hints.strategy ?? DEFAULT_STRATEGY;
  const at = store.strategies.indexOf(name);
  if (at < 0) throw invalidAt('hints.strategy', `must be one of ${store.strategies.join(', ')}`);
  return at;
}

function checkReserve(deps: MatchDeps, input: MatchInput): void {
  if (input.reserve === undefined) return;
  if (input.reserve.count > input.top_k) throw invalidAt('reserve.count', 'must not be more than top_k');
  if (input.reserve.ttl_ms > deps.reservationMaxTtlMs) {
    throw invalidAt('reserve.ttl_ms', `must be at most ${deps.reservationMaxTtlMs}`);
  }
}

/** The request without some miners, beside those it excludes itself. */
function without(input: MatchInput, minerIds: readonly string[]): MatchInput {
  if (minerIds.length === 0) return input;
  const exclude_miners = [...(input.requirements.exclude_miners ?? []), ...minerIds];
  return { ...input, requirements: { ...input.requirements, exclude_miners } };
}

/** Claims places, then fills the list with the best others; those that lost their place meanwhile are left out. */
async function findAndReserve(
  deps: MatchDeps,
  input: MatchInput,
  reserve: NonNullable<MatchInput['reserve']>,
  strategy: number,
): Promise<{ set: FoundSet; reserved: Reserved[] }> {
  let set: FoundSet | undefined;
  const reserved = await deps.reservations.reserve(
    input.job_id,
    { count: reserve.count, ttlMs: reserve.ttl_ms, excluded: input.requirements.exclude_miners },
    async (tried) => {
      set = await deps.matching.find(without(input, tried), strategy, input.top_k + CLAIM_SPARE);
      return set.candidates;
    },
  );
  const held = new Set(reserved.map((place) => place.found.minerId));
  set ??= await deps.matching.find(without(input, [...held]), strategy, input.top_k);
  const others = set.candidates
    .filter((found) => !held.has(found.minerId))
    .slice(0, input.top_k - reserved.length);
  const candidates = [...reserved.map((place) => place.found), ...others].sort(compareFound);
  return { set: { ...set, candidates }, reserved };
}

/**
 * The best candidates for a job, and places on them where `reserve` asks for it.
 * Throws AppError `invalid` (unknown strategy, reserve out of range), and what Redis throws.
 */
export async function match(deps: MatchDeps, input: MatchInput): Promise<MatchOutcome> {
  const strategy = strategyOf(deps.matching, input);
  checkReserve(deps, input);
  const { set, reserved } = input.reserve
    ? await findAndReserve(deps, input, input.reserve, strategy)
    : { set: await deps.matching.find(input, strategy, input.top_k), reserved: [] };
  const reservations = new Map(reserved.map((place) => [place.found.minerId, place.reservationId]));
  const best = set.candidates[0];
  const explanation = best === undefined ? await deps.matching.explain(input, strategy) : undefined;
  return {
    answer: {
      job_id: input.job_id,
      candidates: set.candidates.map((found) => candidateOf(found, reservations.get(found.minerId))),
      explain: best ? explainParts(best) : explainNone(explanation as Explanation),
      feasible: set.feasible,
      truncated: set.truncated,
      strategy: deps.matching.strategies[strategy] as string,
    },
    ...(explanation === undefined ? {} : { explanation }),
  };
}
