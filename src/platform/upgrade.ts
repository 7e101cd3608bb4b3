import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import type { BlockList, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { clientAddress } from './client-address.ts';
import { AppError, envelope } from './errors.ts';

/** Takes over a connection whose client asked for WebSocket; `head` is what it sent already. */
export type UpgradeHandler = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/** What hono's request-id accepts. */
const REQUEST_ID = /^[\w=-]{1,128}$/;

/** Headers that ask for another protocol; without them a request is plain HTTP. */
const UPGRADE_HEADERS = new Set(['upgrade', 'connection', 'http2-settings']);

/**
 * Gives each WebSocket handshake to the handler of its path, and answers 404 on other paths. Call it once per server.
 *
 * Node takes every request with an Upgrade header away from the application as soon as somebody listens for upgrades. Some clients
 * offer h2c with each request (Java's does by default), so what does not ask for WebSocket is served as if it had not asked at all.
 */
export function routeUpgrades(server: Server, routes: Readonly<Record<string, UpgradeHandler>>): void {
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
      serveAsPlainHttp(server, request, socket, head);
      return;
    }
    socket.on('error', destroy);
    const { path } = splitTarget(request);
    const handler = Object.hasOwn(routes, path) ? routes[path] : undefined;
    if (handler !== undefined) handler(request, socket, head);
    else refuseUpgrade(socket, new AppError('not_found', 'no such path'), requestIdOf(request));
  });
}

/** A connection that breaks is closed as well, and that is what everybody looks at. */
function destroy(this: Socket): void {
  this.destroy();
}

/** Path and query of a request, without decoding. */
export function splitTarget(request: IncomingMessage): { path: string; query: string } {
  const target = request.url ?? '';
  const mark = target.indexOf('?');
  return mark < 0
    ? { path: target, query: '' }
    : { path: target.slice(0, mark), query: target.slice(mark + 1) };
}

/** The address of the client of a handshake, as `clientAddress`. */
export function addressOf({ socket, headers }: IncomingMessage, trusted: BlockList): string {
  const forwarded = [headers['x-forwarded-for']].flat().join(',');
  return clientAddress(socket.remoteAddress, forwarded, trusted);
}

/** The X-Request-Id that came along, when it is a proper one, else a new one. */
export function requestIdOf(request: IncomingMessage): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

/** Answers a handshake with an error envelope and closes the connection. */
export function refuseUpgrade(socket: Duplex, error: AppError, requestId: string): void {
  const body = JSON.stringify(envelope(error, requestId));
  const lines = [
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
  ];
  if (error.retry_after_sec !== undefined) lines.push(`Retry-After: ${error.retry_after_sec}`);
  socket.once('finish', () => socket.destroy());
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
}

/** Puts the request back on its connection without the offer, and has the server read it anew. */
function serveAsPlainHttp(server: Server, request: IncomingMessage, socket: Socket, head: Buffer): void {
  const { rawHeaders, method, url, httpVersion } = request;
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (!UPGRADE_HEADERS.has(name.toLowerCase())) lines.push(`${name}: ${rawHeaders[i + 1]}`);
  }
  const kept = /\b(close|keep-alive)\b/i.exec(request.headers.connection ?? '')?.[0];
  if (kept !== undefined) lines.push(`Connection: ${kept}`);
  // Node reads header bytes as latin1, so this gives back the very bytes.
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), head]));
  server.emit('connection', socket);
}
