import type { Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import { query } from '../../platform/validation.ts';
import type { CoordinatorDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { jobParams } from '../jobs/params.ts';
import { SettlementAnswer, SettlementPage, SettlementsQuery } from './schema.ts';
import { findSettlement, listSettlements, redirect, type SettlementRow } from './store.ts';

type Deps = Pick<CoordinatorDeps, 'db'>;

const admin = { tag: 'Settlement', auth: ['operator_key'] } as const;

/** What completed jobs are owed, for administrators. */
export function settlementRoutes(app: Hono<AppEnv>, deps: Deps, { permit }: Pick<Guards, 'permit'>): void {
  app.get(
    '/v1/admin/settlements',
    operation({
      ...admin,
      summary: 'Settlements of completed jobs, newest first',
      answers: { 200: SettlementPage },
      errors: ['invalid'],
    }),
    permit('admin'),
    query(SettlementsQuery),
    async (c) => {
      const { state, limit, cursor } = c.req.valid('query');
      const rows = await deps.db.run((orm) => listSettlements(orm, state, cursor, limit + 1));
      const page = rows.slice(0, limit);
      const last = rows.length > limit ? page.at(-1) : undefined;
      return c.json({
        items: page.map(viewOf),
        ...(last === undefined ? {} : { next_cursor: `${last.createdAt.getTime()}.${last.jobId}` }),
      });
    },
  );

  for (const { goal, summary } of [
    { goal: 'refund', summary: 'Gives back to the buyer what was not released yet' },
    {
      goal: 'release',
      summary: 'Tries a rejected settlement again, or takes a refund back that was not made yet',
    },
  ] as const) {
    app.post(
      `/v1/admin/settlements/:job_id/${goal}`,
      operation({
        ...admin,
        summary,
        answers: { 200: SettlementAnswer },
        errors: ['invalid', 'not_found', 'conflict'],
      }),
      permit('admin'),
      jobParams(),
      async (c) => {
        const { job_id } = c.req.valid('param');
        const isChanged = await deps.db.run((orm) => redirect(orm, job_id, goal));
        const row = await deps.db.run((orm) => findSettlement(orm, job_id));
        if (row === undefined) throw new AppError('not_found', 'no such settlement');
        if (!isChanged) throw new AppError('conflict', `the settlement is ${row.state}${underWay(row)}`);
        return c.json(viewOf(row));
      },
    );
  }
}

function underWay({ claim }: SettlementRow): string {
  return claim === null ? '' : ', and the chain node is being called at this moment';
}

function viewOf(row: SettlementRow) {
  const isDue = row.state === 'pending' || row.state === 'escrowed';
  return {
    job_id: row.jobId,
    buyer: row.buyer,
    provider: row.provider,
    amount: row.amount.replace(/\.?0+$/, ''),
    currency: row.currency,
    driver: row.driver,
    state: row.state,
    goal: row.goal,
    attempts: row.attempts,
    due_at: isDue ? row.dueAt.toISOString() : null,
    last_error: row.lastError,
    created_at: row.createdAt.toISOString(),
    updated_at: row.updatedAt.toISOString(),
  };
}
