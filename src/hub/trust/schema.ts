import * as v from 'valibot';
import { body, maybe, money, pattern, quantity } from '../../platform/fields.ts';
import { JobId, MinerId } from '../miners/schema.ts';

const MAX_LATENCY_MS = 30 * 86_400_000;

export const FeedbackRequest = v.pipe(
  body({
    job_id: JobId,
    miner_id: MinerId,
    outcome: v.picklist(
      ['accepted', 'rejected', 'failed', 'completed'],
      'must be accepted, rejected, failed or completed',
    ),
    latency_ms: v.pipe(maybe(quantity(0, MAX_LATENCY_MS)), v.description('how long the job took')),
    fail_code: v.pipe(
      maybe(pattern(/^[A-Za-z0-9._:-]{1,64}$/, 'must be 1-64 of A-Z a-z 0-9 . _ : -')),
      v.metadata({ examples: ['timeout'] }),
    ),
    tokens_spent: maybe(money()),
    reservation_id: maybe(pattern(/^[A-Za-z0-9._:-]{1,128}$/, 'must be a reservation id')),
  }),
  v.metadata({ ref: 'FeedbackRequest' }),
);

export const FeedbackAnswer = v.pipe(
  v.object({ status: v.literal('ok'), trust_score: v.number(), duplicate: v.boolean() }),
  v.metadata({ ref: 'FeedbackAnswer' }),
);

export const FeedbackJournaled = v.pipe(
  v.object({ status: v.literal('journaled') }),
  v.description('Postgres is away: the journal holds the feedback, and it counts later'),
);
