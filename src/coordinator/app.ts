import type { Hono } from 'hono';
import type { AppEnv } from '../platform/app-env.ts';
import { docsPage } from '../platform/docs-page.ts';
import { createHttpApp } from '../platform/http.ts';
import { COORDINATOR_SECURITY, openapiRoute } from '../platform/openapi.ts';
import { VERSION } from '../platform/version.ts';
import { adminRoutes } from './admin/routes.ts';
import { billingRoutes } from './billing/routes.ts';
import type { CoordinatorDeps, CoordinatorState } from './deps.ts';
import type { Guards } from './guards.ts';
import { healthRoutes } from './health-routes.ts';
import { jobRoutes } from './jobs/routes.ts';
import { minerRoutes } from './miners/routes.ts';
import { receiptRoutes } from './receipts/routes.ts';
import { settlementRoutes } from './settlement/routes.ts';

/** OpenAPI has no words for WebSocket, headers of signed calls and events, so they are told here. */
const DESCRIPTION = `Takes jobs from clients and gives them to miners.

Keys go in \`X-Api-Key\` or as Bearer. A call may be signed: \`X-Signature\` is the hexadecimal HMAC-SHA-256, under the key, of \`<X-Timestamp>.<body>\`,
with \`X-Timestamp\` in Unix seconds or milliseconds; a call that changes something is taken once per signature. A miner whose key has no id says who it is in
\`X-Miner-ID\` (or \`miner_id\` in the query). A miner that sends \`X-Session-Token\` is refused once another process has registered under its id.

\`WS /v1/jobs/stream\` tells a client of every change of its jobs: \`{"type":"job","revision":n,"job":{...}}\`, and \`{"type":"resync"}\` when changes may
have been missed. Browsers offer the key as subprotocol \`key.<key>\` beside \`coordinator\`.`;

/** The HTTP side of the coordinator: its table of contents. The WebSocket side is jobs/stream-socket.ts. */
export function createCoordinatorApp(
  deps: CoordinatorDeps,
  guards: Guards,
  state: CoordinatorState,
): Hono<AppEnv> {
  const { config, log, metrics } = deps;
  const app = createHttpApp({ config, log, metrics, state });
  jobRoutes(app, deps, guards);
  minerRoutes(app, deps, guards);
  receiptRoutes(app, deps, guards);
  settlementRoutes(app, deps, guards);
  billingRoutes(app, deps, guards);
  adminRoutes(app, deps, guards);
  healthRoutes(app, deps, state);
  openapiRoute(
    app,
    { title: 'Coordinator', version: VERSION, description: DESCRIPTION },
    COORDINATOR_SECURITY,
  );
  docsPage(app, 'Coordinator');
  return app;
}
