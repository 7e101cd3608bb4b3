import type { IncomingMessage } from 'node:http';
import { bearerToken } from '../../platform/auth.ts';
import { splitTarget } from '../../platform/upgrade.ts';
import type { MinerClaim } from './credentials.ts';
import { readSession } from './session.ts';

/** The subprotocol that the hub speaks; browsers offer it beside the token, because they can set no header. */
const PROTOCOL = 'poolhub';
const TOKEN_PROTOCOL = 'token.';

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
