import type { Context, Hono } from 'hono';
import type * as v from 'valibot';
import type { AppEnv } from '../../platform/app-env.ts';
import { operation } from '../../platform/openapi.ts';
import { jsonBody, query } from '../../platform/validation.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import {
  limitKeyOf,
  type MinerClaim,
  sessionClaim,
  sessionOrKeyClaim,
  sessionUnknown,
} from './credentials.ts';
import { beatOf, heartbeat, leaseFields } from './heartbeat.ts';
import { registerMiner } from './registration.ts';
import {
  HeartbeatAnswer,
  HeartbeatRequest,
  LeaseAnswer,
  LogoutAnswer,
  RegisterAnswer,
  RegisterRequest,
  SessionQuery,
  SessionRequest,
  UpdateRequest,
} from './schema.ts';
import type { Lease, ProfileChange } from './types.ts';
import { updateMiner } from './update.ts';

const TAG = 'Miners';
const BODY_ERRORS = ['bad_json', 'invalid', 'too_large'] as const;

/** The calls that miners make. Session token or key go into the script of the call, which authenticates: one round trip. */
export function minerRoutes(app: Hono<AppEnv>, deps: HubDeps, guards: Guards): void {
  registerRoute(app, deps, guards);
  heartbeatRoute(app, deps, guards);
  updateRoute(app, deps, guards);

  app.get(
    '/v1/miners/lease/renew',
    operation({
      summary: 'Renews the lease without readings',
      tag: TAG,
      auth: ['session'],
      answers: { 200: LeaseAnswer },
      errors: ['invalid'],
    }),
    query(SessionQuery),
    async (c) => {
      const claim = sessionClaim(c, c.req.valid('query').session_token);
      const { minerId, credential } = claim;
      const lease = await proven(c, guards, claim, () => deps.miners.renew(minerId, credential));
      return c.json(leaseAnswer(minerId, lease));
    },
  );

  app.post(
    '/v1/miners/logout',
    operation({
      summary: 'The miner leaves; it is gone from the registry at once',
      tag: TAG,
      auth: ['session'],
      answers: { 200: LogoutAnswer },
      errors: BODY_ERRORS,
    }),
    jsonBody(SessionRequest),
    async (c) => {
      const claim = sessionClaim(c, c.req.valid('json').session_token);
      const { minerId, credential } = claim;
      await proven(c, guards, claim, () => deps.miners.logout(minerId, credential));
      return c.json({ status: 'ok', success: true, miner_id: minerId });
    },
  );
}

function registerRoute(app: Hono<AppEnv>, deps: HubDeps, { limit }: Guards): void {
  app.post(
    '/v1/miners/register',
    operation({
      summary: 'Registers a miner, or replaces its profile and session',
      tag: TAG,
      auth: [],
      answers: { 200: RegisterAnswer },
      errors: [...BODY_ERRORS, 'unauthenticated', 'conflict', 'rate_limited', 'unavailable'],
    }),
    limit('register'),
    jsonBody(RegisterRequest),
    async (c) => {
      const request = c.req.valid('json');
      const registration = await registerMiner(deps, request);
      return c.json({
        ...leaseAnswer(request.miner_id, registration),
        created: registration.created,
        session_token: registration.sessionToken,
        session_expires_at: new Date(registration.sessionUntilMs).toISOString(),
      });
    },
  );
}

function heartbeatRoute(app: Hono<AppEnv>, deps: HubDeps, guards: Guards): void {
  app.post(
    '/v1/miners/heartbeat',
    operation({
      summary: 'One heartbeat: readings in, lease and waiting commands out',
      tag: TAG,
      auth: ['session', 'miner_key'],
      answers: { 200: HeartbeatAnswer },
      errors: BODY_ERRORS,
    }),
    jsonBody(HeartbeatRequest),
    async (c) => {
      const request = c.req.valid('json');
      const claim = sessionOrKeyClaim(c, deps.config, request);
      // A miner of the earlier protocol tells its load as a bare count of jobs.
      const counted = typeof request.current_jobs === 'number' ? request.current_jobs : undefined;
      const payload = { ...request, queue_len: request.queue_len ?? counted };
      const { lease, commands } = await proven(c, guards, claim, () =>
        heartbeat(deps, claim, payload, 'http'),
      );
      return c.json({ ...leaseAnswer(claim.minerId, lease), commands });
    },
  );
}

function updateRoute(app: Hono<AppEnv>, deps: HubDeps, guards: Guards): void {
  app.post(
    '/v1/miners/update',
    operation({
      summary:
        'A heartbeat that also changes the profile; nothing changes unless all of it can. Region and accel that the miner never named follow its tags and capabilities',
      tag: TAG,
      auth: ['session'],
      answers: { 200: HeartbeatAnswer },
      errors: [...BODY_ERRORS, 'conflict'],
    }),
    jsonBody(UpdateRequest),
    async (c) => {
      const request = c.req.valid('json');
      const claim = sessionClaim(c, request.session_token);
      const result = await proven(c, guards, claim, () =>
        updateMiner(deps, claim, beatOf(request), changeOf(request)),
      );
      return c.json({ ...leaseAnswer(claim.minerId, result), commands: result.commands });
    },
  );
}

/** Makes a call of a miner within its limit and that of guesses; gives what the registry answers to a proven claim. @throws AppError */
function proven<R extends object>(
  c: Context<AppEnv>,
  { limitMiner, limitGuesses }: Guards,
  claim: MinerClaim,
  call: () => Promise<R>,
): Promise<Exclude<R, { status: 'session_unknown' }>> {
  return limitGuesses(c.get('address'), async () => {
    await limitMiner(c, limitKeyOf(c, claim));
    const result = await call();
    if ('status' in result && result.status === 'session_unknown') throw sessionUnknown();
    return result as Exclude<R, { status: 'session_unknown' }>;
  });
}

function changeOf(request: v.InferOutput<typeof UpdateRequest>): ProfileChange {
  return defined({
    base_price: request.price_token_per_ksec,
    tags: request.tags,
    capabilities: request.capabilities,
    max_parallel: request.max_parallel,
    draining: request.draining,
  });
}

/** Drops the fields without a value: to the registry, a field that is there is one that changes. */
function defined<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

function leaseAnswer(minerId: string, lease: Lease): v.InferOutput<typeof LeaseAnswer> {
  return { status: 'ok', success: true, miner_id: minerId, ...leaseFields(lease) };
}
