import * as v from 'valibot';
import { body, maybe, pattern } from '../../platform/fields.ts';
import { pageSize } from '../jobs/schema.ts';
import { SETTLEMENT_STATES } from './tables.ts';

const DEFAULT_PAGE = '50';

const State = v.picklist(SETTLEMENT_STATES, `must be one of ${SETTLEMENT_STATES.join(', ')}`);

export const SettlementsQuery = body({
  state: maybe(State),
  limit: v.optional(pageSize(), DEFAULT_PAGE),
  cursor: maybe(
    v.pipe(
      pattern(/^\d{1,14}\.[0-9a-f]{1,64}$/, 'must be the next_cursor of a page'),
      v.transform((text) => {
        const [createdAtMs, jobId = ''] = text.split('.');
        return { createdAt: new Date(Number(createdAtMs)), jobId };
      }),
    ),
  ),
});

export const SettlementAnswer = v.pipe(
  v.object({
    job_id: v.string(),
    buyer: v.string(),
    provider: v.string(),
    amount: v.string(),
    currency: v.nullable(v.string()),
    driver: v.picklist(['none', 'rpc']),
    state: v.pipe(
      State,
      v.description('kept: nothing is sent; rejected: the node refuses, somebody has to look'),
    ),
    goal: v.picklist(['release', 'refund']),
    attempts: v.pipe(v.number(), v.description('tries since the last success')),
    due_at: v.pipe(v.nullable(v.string()), v.description('the next try; null when there is none')),
    last_error: v.nullable(v.string()),
    created_at: v.string(),
    updated_at: v.string(),
  }),
  v.metadata({ ref: 'Settlement' }),
);

export const SettlementPage = v.pipe(
  v.object({
    items: v.array(SettlementAnswer),
    next_cursor: v.pipe(v.optional(v.string()), v.description('absent on the last page')),
  }),
  v.metadata({ ref: 'SettlementPage' }),
);
