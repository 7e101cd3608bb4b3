import { AppError } from '../../platform/errors.ts';
import { type MatchDeps, strategyOf } from './match.ts';
import { explainNone } from './score.ts';
import type { ExplainInput, Explanation } from './types.ts';

export interface ExplainAnswer extends Explanation {
  job_id: string;
  explain: string;
  /** Asked for with miner_id: every clause that this miner fails; empty when it matches. */
  miner?: { miner_id: string; fails: string[] };
}

/**
 * Counts of the pool and per clause for a request, and every clause that one miner fails.
 * Throws AppError `not_found` for a miner that is not in the registry, `invalid` for an unknown strategy.
 */
export async function explainMatch(deps: MatchDeps, input: ExplainInput): Promise<ExplainAnswer> {
  const { miner_id: minerId, ...request } = input;
  const strategy = strategyOf(deps.matching, request);
  const explanation = await deps.matching.explain(request, strategy);
  const { feasible, available } = explanation;
  const answer: ExplainAnswer = {
    job_id: input.job_id,
    ...explanation,
    explain: feasible > 0 ? `${feasible} of ${available} available miners match` : explainNone(explanation),
  };
  if (minerId === undefined) return answer;
  const fails = await deps.matching.failedClauses(request, strategy, minerId);
  if (fails === undefined) throw new AppError('not_found', 'miner_id is not in the registry');
  return { ...answer, miner: { miner_id: minerId, fails } };
}
