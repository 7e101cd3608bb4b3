import type { Hono } from 'hono';
import type { AppEnv } from '../platform/app-env.ts';
import { createPermit } from '../platform/auth.ts';
import { docsPage } from '../platform/docs-page.ts';
import { createHttpApp } from '../platform/http.ts';
import { openapiRoute } from '../platform/openapi.ts';
import { createLimit, createMinerLimit } from '../platform/rate-limit.ts';
import { adminRoutes } from './admin/routes.ts';
import type { HubDeps, HubState } from './deps.ts';
import type { Guards } from './guards.ts';
import { VERSION } from './health.ts';
import { healthRoutes } from './health-routes.ts';
import { matchRoutes } from './matching/routes.ts';
import { minerRoutes } from './miners/routes.ts';
import { trustRoutes } from './trust/routes.ts';

/** The HTTP side of the hub: its table of contents. The WebSocket side is miners/socket.ts. */
export function createHubApp(deps: HubDeps, state: HubState): Hono<AppEnv> {
  const { config, log, metrics } = deps;
  const app = createHttpApp({ config, log, metrics, state });
  const guards: Guards = {
    permit: createPermit(config),
    limit: createLimit(deps),
    limitMiner: createMinerLimit(deps),
  };
  minerRoutes(app, deps, guards);
  matchRoutes(app, deps, guards);
  trustRoutes(app, deps, guards);
  adminRoutes(app, deps, guards);
  healthRoutes(app, deps, state);
  openapiRoute(app, {
    title: 'Pool Hub',
    version: VERSION,
    description: 'Live registry and matchmaker for GPU miners.',
  });
  docsPage(app);
  return app;
}
