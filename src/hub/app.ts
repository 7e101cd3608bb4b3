import type { Hono } from 'hono';
import type { AppEnv } from '../platform/app-env.ts';
import { createPermit } from '../platform/auth.ts';
import { docsPage } from '../platform/docs-page.ts';
import { createHttpApp } from '../platform/http.ts';
import { HUB_SECURITY, openapiRoute } from '../platform/openapi.ts';
import { lazyQueues } from '../platform/queues.ts';
import { createGuessLimit, createLimit, createMinerLimit } from '../platform/rate-limit.ts';
import { VERSION } from '../platform/version.ts';
import { queueRoutes } from './admin/queues.ts';
import { adminRoutes } from './admin/routes.ts';
import { billingRoutes } from './billing/routes.ts';
import type { HubDeps, HubState } from './deps.ts';
import type { Guards } from './guards.ts';
import { healthRoutes } from './health-routes.ts';
import { matchRoutes } from './matching/routes.ts';
import { minerRoutes } from './miners/routes.ts';
import { slaRoutes } from './sla/routes.ts';
import { trustRoutes } from './trust/routes.ts';

/** OpenAPI has no words for WebSocket, so the socket is told here. */
const DESCRIPTION = `Live registry and matchmaker for GPU miners.

Miners may beat over WebSocket too: \`WS /v1/miners/heartbeat\` with the session token as query \`session_token\`, as Bearer, or offered as
subprotocol \`token.<token>\` beside \`poolhub\`. A miner sends frames like the body of \`POST /v1/miners/heartbeat\`, the hub answers \`ack\`,
\`command\` and \`error\`. Close codes: 4401 session unknown, 4409 replaced, 4429 too fast, 1009 too large, 1012 replica restarting.`;

/** The HTTP side of the hub: its table of contents. The WebSocket side is miners/socket.ts. */
export function createHubApp(deps: HubDeps, state: HubState): Hono<AppEnv> {
  const { config, log, metrics } = deps;
  const app = createHttpApp({ config, log, metrics, state });
  const limitGuesses = createGuessLimit(config.rate_limit_default_per_sec, () =>
    metrics.rateLimited.inc({ route: 'guesses' }),
  );
  const guards: Guards = {
    permit: createPermit(config, limitGuesses),
    limit: createLimit(deps),
    limitMiner: createMinerLimit(deps),
    limitGuesses,
  };
  const queues = lazyQueues(deps.redis, config.redis_prefix, log);
  minerRoutes(app, deps, guards);
  matchRoutes(app, deps, guards);
  trustRoutes(app, deps, guards);
  adminRoutes(app, deps, guards);
  slaRoutes(app, deps, guards, queues);
  queueRoutes(app, deps, guards, queues);
  billingRoutes(app, deps, guards, queues);
  healthRoutes(app, deps, state);
  openapiRoute(app, { title: 'Pool Hub', version: VERSION, description: DESCRIPTION }, HUB_SECURITY);
  docsPage(app, 'Pool Hub');
  return app;
}
