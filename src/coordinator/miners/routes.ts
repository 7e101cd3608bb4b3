import { createHash, randomBytes } from 'node:crypto';
import type { Context, Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { operation } from '../../platform/openapi.ts';
import { jsonBody } from '../../platform/validation.ts';
import type { CoordinatorDeps } from '../deps.ts';
import { callerId, type Guards } from '../guards.ts';
import { jobParams } from '../jobs/params.ts';
import { publishChange } from '../publish.ts';
import { memberTexts, objectText } from '../receipts/json-text.ts';
import { takeBackJobs, takeBackOthers } from './losses.ts';
import { completeJob, type Failure, failJob, type Reporter } from './outcome.ts';
import { mustRegister, poll, watchDelivery } from './poll.ts';
import {
  AssignedJob,
  DoneAnswer,
  FailRequest,
  HeartbeatAnswer,
  HeartbeatRequest,
  PollRequest,
  RegisterAnswer,
  RegisterRequest,
  ResultRequest,
  ResultTaken,
  StatusAnswer,
} from './schema.ts';
import { beat, drain, notRunningOn, upsertMiner } from './store.ts';

const miner = { tag: 'Miners', auth: ['worker_key'] } as const;
const BODY_ERRORS = ['bad_json', 'invalid', 'too_large'] as const;
const JOB_ERRORS = [...BODY_ERRORS, 'session_unknown', 'not_found', 'conflict'] as const;

const TOKEN_BYTES = 24;
const DEFAULT_ERROR_CODE = 'failed';
const MAX_ERROR_CHARS = 1000;

/** The calls that miners make. */
export function minerRoutes(app: Hono<AppEnv>, deps: CoordinatorDeps, guards: Guards): void {
  registerRoute(app, deps, guards);
  heartbeatRoute(app, deps, guards);
  pollRoute(app, deps, guards);
  outcomeRoutes(app, deps, guards);
}

function registerRoute(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  app.post(
    '/v1/miners/register',
    operation({
      ...miner,
      summary: 'Registers a miner, or anew: jobs that its former session ran are queued again',
      answers: { 200: RegisterAnswer },
      errors: BODY_ERRORS,
    }),
    permit('miner'),
    jsonBody(RegisterRequest),
    async (c) => {
      const { capabilities, concurrency, region } = c.req.valid('json');
      const minerId = callerId(c);
      const token = randomBytes(TOKEN_BYTES).toString('base64url');
      await deps.db.run((orm) =>
        upsertMiner(orm, {
          minerId,
          capabilitiesText: JSON.stringify(capabilities),
          concurrency,
          region: region ?? null,
          sessionDigest: digestOf(token),
        }),
      );
      // After the session has changed: a poll of the former one gets nothing any more.
      await takeBackJobs(deps, minerId, {
        errorCode: 'miner_restarted',
        errorMessage: 'the miner registered anew while it ran the job',
        failCode: 'preempted',
      });
      return c.json({ status: 'ok', session_token: token });
    },
  );
}

function heartbeatRoute(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  app.post(
    '/v1/miners/heartbeat',
    operation({
      ...miner,
      summary:
        'A sign of life, answered with the jobs that the miner may stop; one that drains and works on nothing gives its jobs back',
      answers: { 200: HeartbeatAnswer },
      errors: [...BODY_ERRORS, 'session_unknown'],
    }),
    permit('miner'),
    jsonBody(HeartbeatRequest),
    async (c) => {
      const { inflight: told, status, metadata, current_jobs: currentJobs } = c.req.valid('json');
      const inflight = told ?? currentJobs?.length;
      const minerId = callerId(c);
      const metadataText = metadata === undefined ? null : JSON.stringify(metadata);
      const now = await deps.db.run((orm) =>
        beat(orm, minerId, sessionOf(c), { inflight, status, metadataText, currentJobs }),
      );
      if (now === undefined) throw mustRegister();
      if (now.has_dropped && currentJobs !== undefined) await takeBackOthers(deps, minerId, currentJobs);
      if (now.status === 'DRAINING' && inflight === 0 && (currentJobs ?? []).length === 0) {
        await takeBackJobs(deps, minerId, {
          errorCode: 'miner_drained',
          errorMessage: 'the miner drained without finishing the job',
          failCode: 'preempted',
        });
      }
      const canceled =
        currentJobs === undefined || currentJobs.length === 0
          ? []
          : await deps.db.run((orm) => notRunningOn(orm, minerId, currentJobs));
      return c.json({ status: 'ok', miner_status: now.status, canceled_jobs: canceled });
    },
  );

  app.post(
    '/v1/miners/drain',
    operation({
      ...miner,
      summary: 'The miner gets no more jobs until it registers again; it finishes those it has',
      answers: { 200: StatusAnswer },
      errors: ['session_unknown'],
    }),
    permit('miner'),
    async (c) => {
      const isKnown = await deps.db.run((orm) => drain(orm, callerId(c), sessionOf(c)));
      if (!isKnown) throw mustRegister();
      return c.json({ status: 'ok', miner_status: 'DRAINING' });
    },
  );
}

function pollRoute(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  app.post(
    '/v1/miners/poll',
    operation({
      ...miner,
      summary: 'A job for the miner (200), held for max_wait_seconds at most; 204 when there is none',
      answers: { 200: AssignedJob, 204: 'nothing' },
      errors: [...BODY_ERRORS, 'session_unknown'],
    }),
    permit('miner'),
    jsonBody(PollRequest),
    async (c) => {
      const asked = c.req.valid('json').max_wait_seconds;
      const waitMs = Math.min(asked, deps.config.poll_max_wait_sec) * 1000;
      const job = await poll(deps, callerId(c), sessionOf(c), waitMs, c.req.raw.signal);
      if (job === undefined) return c.body(null, 204);
      watchDelivery(deps, job, c.env?.outgoing);
      return json(c, {
        job_id: JSON.stringify(job.row.job_id),
        payload: job.payloadText,
        constraints: job.constraintsText,
      });
    },
  );
}

function outcomeRoutes(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  app.post(
    '/v1/miners/:job_id/result',
    operation({
      ...miner,
      summary: 'Delivers the result of a job, once',
      answers: { 200: ResultTaken },
      errors: JOB_ERRORS,
    }),
    permit('miner'),
    jobParams(),
    jsonBody(ResultRequest),
    async (c) => {
      const { job_id } = c.req.valid('param');
      const texts = memberTexts(await c.req.text());
      const resultText = texts.get('result') ?? '{}';
      const metricsText = textOf(texts, 'metrics');
      const { result } = c.req.valid('json');
      if (result.status === 'failed') {
        await fail(deps, reporterOf(c), job_id, { ...failureIn(result), resultText, metricsText });
        return json(c, { status: '"ok"', receipt: 'null' });
      }
      const done = await completeJob(deps, reporterOf(c), job_id, { resultText, metricsText });
      publishChange(deps, 'complete', done.row);
      return json(c, { status: '"ok"', receipt: done.receiptText ?? 'null' });
    },
  );

  app.post(
    '/v1/miners/:job_id/fail',
    operation({
      ...miner,
      summary: 'Reports that a job has failed',
      answers: { 200: DoneAnswer },
      errors: JOB_ERRORS,
    }),
    permit('miner'),
    jobParams(),
    jsonBody(FailRequest),
    async (c) => {
      const { error_code, error_message } = c.req.valid('json');
      await fail(deps, reporterOf(c), c.req.valid('param').job_id, {
        errorCode: error_code,
        errorMessage: error_message,
        resultText: null,
        metricsText: textOf(memberTexts(await c.req.text()), 'metrics'),
      });
      return c.json({ status: 'ok' });
    },
  );
}

async function fail(
  deps: CoordinatorDeps,
  reporter: Reporter,
  jobId: string,
  failure: Failure,
): Promise<void> {
  publishChange(deps, 'fail', await failJob(deps, reporter, jobId, failure));
}

function reporterOf(c: Context<AppEnv>): Reporter {
  return { minerId: callerId(c), sessionDigest: sessionOf(c) };
}

/** What a result with the status `failed` says of its failure, as far as it says it well. */
function failureIn(result: Record<string, unknown>): Pick<Failure, 'errorCode' | 'errorMessage'> {
  const { error_code, error_message, error } = result;
  const code = typeof error_code === 'string' && /^[A-Za-z0-9._:-]{1,64}$/.test(error_code);
  const message = [error_message, error].find((text) => typeof text === 'string') ?? '';
  return {
    errorCode: code ? error_code : DEFAULT_ERROR_CODE,
    errorMessage: (message as string).replace(/[\p{Cc}\p{Cs}]/gu, ' ').slice(0, MAX_ERROR_CHARS),
  };
}

/** The session that the miner says it has, if it says so: then a call of a process whose id another one took is refused. */
function sessionOf(c: Context<AppEnv>): string | null {
  const token = c.req.header('x-session-token');
  return token === undefined ? null : digestOf(token);
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/** The text of a member; null where it is absent or null. */
function textOf(texts: ReadonlyMap<string, string>, name: string): string | null {
  const text = texts.get(name);
  return text === undefined || text === 'null' ? null : text;
}

/** Answers with JSON made of texts, in which no number is written anew. */
function json(c: Context<AppEnv>, members: Record<string, string>): Response {
  return c.body(objectText(members), 200, { 'Content-Type': 'application/json' });
}
