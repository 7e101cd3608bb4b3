import type { Context, Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError, invalidAt } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import { jsonBody, query } from '../../platform/validation.ts';
import type { CoordinatorDeps } from '../deps.ts';
import { callerId, type Guards } from '../guards.ts';
import { offerJob } from '../hub/offers.ts';
import { type Constraints, needsOf } from '../miners/fit.ts';
import { publishChange, publishOpen } from '../publish.ts';
import { objectText } from '../receipts/json-text.ts';
import { listReceipts } from '../receipts/store.ts';
import { jobParams } from './params.ts';
import { IDEMPOTENCY_KEY, JobAnswer, JobPage, JobsQuery, ResultAnswer, SubmitRequest } from './schema.ts';
import { isTerminal } from './states.ts';
import { cancelJob, findJob, findResult, listJobs } from './store.ts';
import { streamJob } from './stream.ts';
import { submitJob } from './submit.ts';
import { errorOf, type ViewRow, viewOf } from './view.ts';

const client = { tag: 'Jobs', auth: ['client_key'] } as const;
const RETRY_RESULT_SEC = 1;

/** The calls that clients make. */
export function jobRoutes(app: Hono<AppEnv>, deps: CoordinatorDeps, guards: Guards): void {
  submitRoute(app, deps, guards);
  readRoutes(app, deps, guards);
  cancelRoute(app, deps, guards);
}

function submitRoute(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  app.post(
    '/v1/jobs',
    operation({
      ...client,
      summary: 'Submits a job; with Idempotency-Key a repeat gets the first job',
      headers: { 'Idempotency-Key': '1-200 visible ASCII characters' },
      answers: { 201: JobAnswer },
      errors: ['bad_json', 'invalid', 'too_large', 'conflict', 'quota_exceeded'],
    }),
    permit('client'),
    jsonBody(SubmitRequest),
    async (c) => {
      const request = c.req.valid('json');
      const { row, repeated, isHeld } = await submitJob(
        deps,
        callerId(c),
        request,
        await c.req.text(),
        idempotencyKeyOf(c),
      );
      if (repeated) c.header('Idempotency-Replayed', 'true');
      else announce(deps, row, request.constraints, isHeld);
      return c.json(viewOf(row), 201);
    },
  );
}

/** Off the path of the answer: a slow hub delays nobody, and what is lost here the sweep finds. */
function announce(deps: CoordinatorDeps, row: ViewRow, constraints: Constraints, isHeld: boolean): void {
  publishChange(deps, 'submit', row);
  const needs = needsOf(constraints);
  if (isHeld) void offerJob(deps, row.job_id, constraints, needs);
  else publishOpen(deps, row.job_id, needs);
}

function readRoutes(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  app.get(
    '/v1/jobs',
    operation({
      ...client,
      summary: 'Jobs of the client, newest first',
      answers: { 200: JobPage },
      errors: ['invalid'],
    }),
    permit('client'),
    query(JobsQuery),
    async (c) => {
      const { state, limit, cursor } = c.req.valid('query');
      const rows = await deps.db.run((orm) => listJobs(orm, { clientId: callerId(c), state, limit, cursor }));
      return c.json(pageOf(rows, limit));
    },
  );

  app.get(
    '/v1/jobs/:job_id',
    operation({ ...client, summary: 'A job', answers: { 200: JobAnswer }, errors: ['invalid', 'not_found'] }),
    permit('client'),
    jobParams(),
    async (c) => {
      const row = await deps.db.run((orm) => findJob(orm, callerId(c), c.req.valid('param').job_id));
      if (row === undefined) throw noSuchJob();
      return c.json(viewOf(row));
    },
  );

  app.get(
    '/v1/jobs/:job_id/result',
    operation({
      ...client,
      summary: 'Result and receipt of a job, or its error; 425 until it is over',
      answers: { 200: ResultAnswer },
      errors: ['invalid', 'not_found', 'not_ready'],
    }),
    permit('client'),
    jobParams(),
    async (c) => resultAnswer(c, deps, c.req.valid('param').job_id),
  );

  app.get(
    '/v1/jobs/:job_id/events',
    operation({
      ...client,
      summary:
        'The state of a job and each of its changes as server-sent events, until it is over; 204 when there is nothing after Last-Event-ID',
      headers: { 'Last-Event-ID': 'the id of the last event that came' },
      answers: { 200: 'events', 204: 'nothing' },
      errors: ['invalid', 'not_found'],
    }),
    permit('client'),
    jobParams(),
    async (c) => {
      const row = await deps.db.run((orm) => findJob(orm, callerId(c), c.req.valid('param').job_id));
      if (row === undefined) throw noSuchJob();
      return streamJob(c, deps, row);
    },
  );
}

function cancelRoute(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  app.post(
    '/v1/jobs/:job_id/cancel',
    operation({
      ...client,
      summary: 'Cancels a job that is not over',
      answers: { 200: JobAnswer },
      errors: ['invalid', 'not_found', 'conflict'],
    }),
    permit('client'),
    jobParams(),
    async (c) => {
      const { job_id } = c.req.valid('param');
      const canceled = await deps.db.run((orm) => cancelJob(orm, callerId(c), job_id));
      if (canceled === undefined) {
        const row = await deps.db.run((orm) => findJob(orm, callerId(c), job_id));
        throw row === undefined ? noSuchJob() : new AppError('conflict', `the job is ${row.state}`);
      }
      publishChange(deps, 'cancel', canceled.row);
      deps.hub?.release(canceled.reservationIds);
      return c.json(viewOf(canceled.row));
    },
  );
}

/** Result and receipt as they were stored, to the digit. */
async function resultAnswer(c: Context<AppEnv>, { db }: CoordinatorDeps, jobId: string): Promise<Response> {
  const row = await db.run((orm) => findResult(orm, callerId(c), jobId));
  if (row === undefined) throw noSuchJob();
  if (!isTerminal(row.state)) {
    throw new AppError('not_ready', `the job is ${row.state}`, { retry_after_sec: RETRY_RESULT_SEC });
  }
  const receipts = row.state === 'COMPLETED' ? await db.run((orm) => listReceipts(orm, jobId, 0, 1)) : [];
  const error = errorOf(row);
  const text = objectText({
    result: row.result ?? 'null',
    receipt: receipts[0]?.body ?? 'null',
    error: error === null ? undefined : JSON.stringify(error),
  });
  return c.body(text, 200, { 'Content-Type': 'application/json' });
}

/** A page out of one row more than it holds. */
function pageOf(rows: readonly ViewRow[], limit: number) {
  const items = rows.slice(0, limit).map(viewOf);
  const last = items.at(-1);
  return rows.length > limit && last !== undefined ? { items, next_cursor: last.job_id } : { items };
}

function idempotencyKeyOf(c: Context<AppEnv>): string | null {
  const key = c.req.header('idempotency-key');
  if (key === undefined) return null;
  if (!IDEMPOTENCY_KEY.test(key)) {
    throw invalidAt('Idempotency-Key', 'must be 1-200 visible ASCII characters');
  }
  return key;
}

function noSuchJob(): AppError {
  return new AppError('not_found', 'no such job');
}
