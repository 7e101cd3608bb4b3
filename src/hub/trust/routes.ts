import type { Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import { jsonBody } from '../../platform/validation.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { recordFeedback } from './feedback.ts';
import { FeedbackAnswer, FeedbackJournaled, FeedbackRequest } from './schema.ts';

/** How jobs went, told by coordinators. */
export function trustRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards): void {
  app.post(
    '/v1/feedback',
    operation({
      summary: 'Takes the outcome of a job; counts once for each job, miner and outcome',
      tag: 'Matching',
      auth: ['coordinator'],
      answers: { 200: FeedbackAnswer, 202: FeedbackJournaled },
      errors: ['bad_json', 'invalid', 'too_large', 'not_found'],
    }),
    permit('coordinator'),
    limit('default'),
    jsonBody(FeedbackRequest),
    async (c) => {
      const request = c.req.valid('json');
      const result = await recordFeedback(deps, {
        jobId: request.job_id,
        minerId: request.miner_id,
        outcome: request.outcome,
        latencyMs: request.latency_ms ?? null,
        failCode: request.fail_code ?? null,
        tokensSpent: request.tokens_spent ?? null,
        reservationId: request.reservation_id ?? null,
      });
      switch (result.status) {
        case 'ok':
          return c.json(result);
        case 'journaled':
          return c.json(result, 202);
        case 'unknown_miner':
          throw new AppError('not_found', 'no such miner');
      }
    },
  );
}
