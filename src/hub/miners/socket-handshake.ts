import type { IncomingMessage } from 'node:http';
import { BurstyRateLimiter, RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { bearerToken } from '../../platform/auth.ts';
import { clientAddress } from '../../platform/client-address.ts';
import { AppError } from '../../platform/errors.ts';
import { addressSet } from '../../platform/settings.ts';
import { splitTarget } from '../../platform/upgrade.ts';
import type { HubDeps } from '../deps.ts';
import type { MinerClaim } from './credentials.ts';
import { readSession } from './session.ts';

/** The subprotocol that the hub speaks; browsers offer it beside the token, because they can set no header. */
const PROTOCOL = 'poolhub';
const TOKEN_PROTOCOL = 'token.';

/** As for HTTP: the burst is as much again, and comes back once in this time. */
const BURST_WINDOW_SEC = 10;

/** Counts a handshake against the limit of its client address. @throws AppError `rate_limited` */
export type LimitHandshake = (request: IncomingMessage) => Promise<void>;

/**
 * The limit of handshakes: RATE_LIMIT_DEFAULT_PER_SEC per client address. Each replica counts for itself, because what there is to protect is
 * the replica: its sockets, and the one script call that a handshake costs.
 */
export function createHandshakeLimit({
  config,
  metrics,
}: Pick<HubDeps, 'config' | 'metrics'>): LimitHandshake {
  const trusted = addressSet(config.trusted_proxies);
  const points = config.rate_limit_default_per_sec;
  const limiter = new BurstyRateLimiter(
    new RateLimiterMemory({ keyPrefix: 'handshake', points, duration: 1 }),
    new RateLimiterMemory({ keyPrefix: 'handshake:burst', points, duration: BURST_WINDOW_SEC }),
  );
  return async ({ socket, headers }) => {
    const forwarded = headers['x-forwarded-for'];
    try {
      await limiter.consume(clientAddress(socket.remoteAddress, [forwarded].flat().join(','), trusted));
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      metrics.rateLimited.inc({ route: 'handshake' });
      const retry_after_sec = Math.max(1, Math.ceil(refusal.msBeforeNext / 1000));
      throw new AppError('rate_limited', 'too many requests', { retry_after_sec });
    }
  };
}

/** Answers a handshake's offer of subprotocols. The one that carries the token is never sent back. */
export function chooseProtocol(offered: ReadonlySet<string>): string | false {
  return offered.has(PROTOCOL) ? PROTOCOL : false;
}

/**
 * Who a handshake claims to come from: a session token in the query (`session_token`), as Bearer, or in
 * Sec-WebSocket-Protocol as `token.<token>` beside `poolhub`. Undefined when there is none of ours.
 */
export function claimOf(request: IncomingMessage): MinerClaim | undefined {
  const token = tokenOf(request);
  const session = token === undefined ? undefined : readSession(token);
  if (session === undefined) return undefined;
  return { minerId: session.minerId, credential: { kind: 'session', digest: session.digest } };
}

function tokenOf(request: IncomingMessage): string | undefined {
  const inQuery = new URLSearchParams(splitTarget(request).query).get('session_token');
  if (inQuery !== null) return inQuery;
  return bearerToken(request.headers.authorization) ?? tokenInProtocols(request);
}

function tokenInProtocols(request: IncomingMessage): string | undefined {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
  return offered.find((name) => name.startsWith(TOKEN_PROTOCOL))?.slice(TOKEN_PROTOCOL.length);
}
