import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo, BlockList } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { type Context, Hono, type MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { requestId } from 'hono/request-id';
import { routePath } from 'hono/route';
import { secureHeaders } from 'hono/secure-headers';
import type { AppEnv } from './app-env.ts';
import { clientAddress } from './client-address.ts';
import type { Config } from './config.ts';
import { AppError, envelope, toAppError } from './errors.ts';
import type { Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { addressSet } from './settings.ts';

/** Whether the process is on its way out: readiness turns 503 and connections are not kept. */
export interface Draining {
  readonly draining: boolean;
}

interface HttpDeps {
  readonly config: Pick<Config, 'trusted_proxies' | 'max_body_bytes'>;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, 'httpDurationMs'>;
  readonly state: Draining;
}

const REQUEST_ID_MAX_CHARS = 128;
const SERVER_TIMEOUTS = { headersMs: 10_000, requestMs: 30_000 };
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
const MAX_HEADERS = 64;
const IDLE_SWEEP_MS = 50;

/** HTTP's own word for a method that a path does not take. The set of codes is closed and has none for it: there is no such call. */
const METHOD_NOT_ALLOWED = 405;

/** Only pages set a policy of their own (`/docs`); an answer of the API is never rendered. */
const SECURITY_HEADERS: Parameters<typeof secureHeaders>[0] = {
  overwrite: false,
  contentSecurityPolicy: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] },
  xFrameOptions: 'DENY',
  // TLS ends at the proxy in front, which knows whether this name is served over https only.
  strictTransportSecurity: false,
  xDownloadOptions: false,
  xPermittedCrossDomainPolicies: false,
  xDnsPrefetchControl: false,
  originAgentCluster: false,
  removePoweredBy: false,
};

/** Routes that are asked every few seconds and say nothing when all is well. */
const QUIET_ROUTES = new Set(['/livez', '/readyz', '/health', '/v1/health', '/metrics', '/v1/metrics']);

/**
 * An application with what every route shares: request ids, one log line and one latency sample per request, the client's address, the
 * body limit, security headers, 404, 405 and the one error handler.
 */
export function createHttpApp({ config, log, metrics, state }: HttpDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.use(requestId({ limitLength: REQUEST_ID_MAX_CHARS }));
  app.use(observe(log, metrics, state));
  app.use(secureHeaders(SECURITY_HEADERS));
  app.use(address(addressSet(config.trusted_proxies)));
  app.use(limitBody(config.max_body_bytes));
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        c.header('Allow', methods.join(', '));
        const error = new AppError('not_found', `this path takes ${methods.join(', ')}`);
        return answerError(c, error, METHOD_NOT_ALLOWED);
      },
    }),
  );
  app.notFound((c) => answerError(c, new AppError('not_found', 'no such path')));
  app.onError((thrown, c) => {
    const error = toAppError(thrown);
    if (error.code === 'internal')
      log.error({ request_id: c.get('requestId'), err: thrown }, 'request failed');
    else if (error.code === 'unavailable')
      log.warn({ request_id: c.get('requestId'), err: error.cause ?? error }, 'store unavailable');
    return answerError(c, error);
  });
  return app;
}

/**
 * The HTTP server of an application, not listening yet. Slow headers (10 s) and slow requests (30 s) are cut off; idle connections are
 * kept a little longer than load balancers keep theirs (60 s), so that none is closed under a request.
 */
export function createHttpServer(app: Hono<AppEnv>, timeouts = SERVER_TIMEOUTS): Server {
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: {
      headersTimeout: timeouts.headersMs,
      requestTimeout: timeouts.requestMs,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: Math.min(1000, timeouts.headersMs),
      noDelay: true,
    },
  }) as Server;
  server.maxHeadersCount = MAX_HEADERS;
  return server;
}

/** Starts to listen. Resolves with the base URL; rejects when the address cannot be taken. */
export async function listen(server: Server, host: string, port: number): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const { address: bound, port: taken, family } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${bound}]` : bound}:${taken}`;
}

/**
 * Stops listening and waits until the requests in flight are answered; after `budgetMs` it cuts off what is left. Connections that
 * fall idle meanwhile are closed at once: Node closes only those that are idle when it stops listening.
 */
export async function closeServer(server: Server, budgetMs: number, log: Logger): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS);
  const cut = setTimeout(() => {
    log.warn({ budget_ms: budgetMs }, 'cutting off requests that do not end');
    server.closeAllConnections();
  }, budgetMs);
  try {
    await closed;
  } finally {
    clearInterval(sweep);
    clearTimeout(cut);
  }
}

function observe(log: Logger, metrics: HttpDeps['metrics'], state: Draining): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const started = performance.now();
    await next();
    if (state.draining) c.header('Connection', 'close');
    const durationMs = performance.now() - started;
    const pattern = routePath(c, -1);
    const route = pattern === '/*' || pattern === '*' ? 'none' : pattern;
    const { method } = c.req;
    const { status } = c.res;
    metrics.httpDurationMs.observe({ method: knownMethod(method), route, status }, durationMs);
    const level = QUIET_ROUTES.has(route) && status < 500 ? 'debug' : 'info';
    log[level](
      {
        request_id: c.get('requestId'),
        method,
        route,
        status,
        duration_ms: Math.round(durationMs * 100) / 100,
        address: c.get('address'),
        caller: c.get('caller')?.role,
      },
      'request',
    );
  };
}

/** A client may make up methods; a label must not follow it. */
function knownMethod(method: string): string {
  return ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'].includes(method) ? method : 'other';
}

function address(trusted: BlockList): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const socket = c.env?.incoming?.socket;
    c.set('address', clientAddress(socket?.remoteAddress, c.req.header('X-Forwarded-For'), trusted));
    await next();
  };
}

/**
 * Refuses bodies over the limit before they are read where Content-Length tells, else while they are read. Node itself cuts a body
 * off at its Content-Length, so only a chunked one needs counting.
 */
function limitBody(maxBytes: number): MiddlewareHandler<AppEnv> {
  const refuse = (): never => {
    throw new AppError('too_large', `a body may have ${maxBytes} bytes`);
  };
  const counting = bodyLimit({ maxSize: maxBytes, onError: refuse });
  return async (c, next) => {
    const { method } = c.req;
    if (method === 'GET' || method === 'HEAD') return next();
    const length = c.req.header('Content-Length');
    if (length === undefined || c.req.header('Transfer-Encoding') !== undefined) return counting(c, next);
    if (Number(length) > maxBytes) refuse();
    return next();
  };
}

function answerError(c: Context<AppEnv>, error: AppError, status = error.status): Response {
  if (error.retry_after_sec !== undefined) c.header('Retry-After', String(error.retry_after_sec));
  if (error.status === 401) c.header('WWW-Authenticate', 'Bearer');
  return c.json(envelope(error, c.get('requestId')), status);
}
