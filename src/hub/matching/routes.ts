import type { Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError } from '../../platform/errors.ts';
import type { Metrics } from '../../platform/metrics.ts';
import { operation } from '../../platform/openapi.ts';
import { jsonBody, pathParams } from '../../platform/validation.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { explainMatch } from './explain.ts';
import { type MatchOutcome, match } from './match.ts';
import {
  ExplainAnswer,
  ExplainRequest,
  MatchAnswer,
  MatchRequest,
  ReservationAnswer,
  ReservationParams,
} from './schema.ts';
import type { Explanation, MatchInput } from './types.ts';

const coordinator = { tag: 'Matching', auth: ['coordinator'] } as const;

/** The calls by which coordinators find miners and hold places on them. */
export function matchRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards): void {
  app.post(
    '/v1/match',
    operation({
      ...coordinator,
      summary: 'The best miners for a job; an empty list says why, clause by clause',
      answers: { 200: MatchAnswer },
      errors: ['bad_json', 'invalid', 'too_large'],
    }),
    permit('coordinator'),
    limit('match'),
    jsonBody(MatchRequest),
    async (c) => c.json((await measuredMatch(deps, c.req.valid('json'))).answer),
  );

  app.post(
    '/v1/match/explain',
    operation({
      ...coordinator,
      summary: 'Why a match finds what it finds: counts per clause, and every clause that one miner fails',
      answers: { 200: ExplainAnswer },
      errors: ['bad_json', 'invalid', 'too_large', 'not_found'],
    }),
    permit('coordinator'),
    limit('default'),
    jsonBody(ExplainRequest),
    async (c) => c.json(await explainMatch(deps, c.req.valid('json'))),
  );

  for (const [verb, outcome] of [
    ['confirm', 'confirmed'],
    ['release', 'released'],
  ] as const) {
    app.post(
      `/v1/reservations/:id/${verb}`,
      operation({
        ...coordinator,
        summary: verb === 'confirm' ? 'The miner has taken the job' : 'The place is free again',
        answers: { 200: ReservationAnswer },
        errors: ['invalid', 'not_found', 'conflict'],
      }),
      permit('coordinator'),
      limit('default'),
      pathParams(ReservationParams),
      async (c) => {
        const { id } = c.req.valid('param');
        const result = await deps.reservations.end(id, outcome);
        if (result.status === 'unknown') throw new AppError('not_found', 'no such reservation');
        if (result.status === 'ended') {
          throw new AppError('conflict', `the reservation has ended: ${result.how}`);
        }
        return c.json({ status: 'ok', reservation_id: id });
      },
    );
  }
}

async function measuredMatch(deps: HubDeps, input: MatchInput): Promise<MatchOutcome> {
  const started = performance.now();
  let result = 'error';
  try {
    const outcome = await match(deps, input);
    result = outcome.answer.candidates.length > 0 ? 'matched' : 'empty';
    if (outcome.answer.truncated) deps.metrics.matchTruncated.inc();
    if (outcome.explanation !== undefined) countRejections(deps.metrics, outcome.explanation);
    return outcome;
  } finally {
    deps.metrics.matchRequests.inc({ result });
    deps.metrics.matchLatencyMs.observe(performance.now() - started);
  }
}

/** Counts the clauses that emptied a match: those whose loss alone would fill it, else those that nobody satisfies. None is to blame where some match. */
function countRejections(metrics: Metrics, { feasible, clauses }: Explanation): void {
  if (feasible > 0) return;
  const decisive = clauses.filter((clause) => clause.if_dropped > 0);
  const blamed = decisive.length > 0 ? decisive : clauses.filter((clause) => clause.have === 0);
  for (const { clause } of blamed) metrics.matchRejections.inc({ clause });
}
