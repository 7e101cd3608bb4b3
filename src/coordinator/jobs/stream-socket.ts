import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { toAppError } from '../../platform/errors.ts';
import { refuseUpgrade, requestIdOf, type UpgradeHandler } from '../../platform/upgrade.ts';
import type { CoordinatorDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import type { JobChange } from '../notices.ts';

/** Where clients open their sockets. */
export const JOB_STREAM_PATH = '/v1/jobs/stream';

/** The subprotocol of the stream; browsers offer it beside `key.<key>`, because they can set no header. */
const PROTOCOL = 'coordinator';
const KEY_PROTOCOL = 'key.';

const MAX_FRAME_BYTES = 1024;
const PING_EVERY_MS = 20_000;
/** Signs of life of an event stream, which reads its job with each, to one `resync`, after which a client may have many to read. */
const KEEP_ALIVES_PER_RESYNC = 4;
/** A socket that reads so much slower than its jobs change is dropped, not buffered. */
const MAX_BUFFERED_BYTES = 1_048_576;
const RESTARTING = 1012;
const TOO_SLOW = 1013;

type SocketDeps = Pick<CoordinatorDeps, 'config' | 'notices' | 'streams' | 'log'>;

/**
 * The sockets on which clients hear of every change of any of their jobs: `{"type":"job","revision":n,"job":{…}}`. After
 * `{"type":"resync"}` changes may have been missed: read the jobs that matter again. It comes first, whenever notices are known to be lost, and
 * now and then, for those that were lost unseen. Nothing is expected from the client. Close codes: 1012 the process restarts, 1013 too slow a reader.
 */
export function jobStreamUpgrades(deps: SocketDeps, { admit }: Pick<Guards, 'admit'>): UpgradeHandler {
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
    handleProtocols: (offered) => (offered.has(PROTOCOL) ? PROTOCOL : false),
  });
  const upgrade = async (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    try {
      const { id } = await admit(request, headersOf(request), 'client');
      deps.streams.admit(id);
      // Gone while its signature was checked.
      if (socket.destroyed) return;
      server.handleUpgrade(request, socket, head, (opened) => serve(deps, opened, id));
    } catch (error) {
      const refusal = toAppError(error);
      const request_id = requestIdOf(request);
      if (refusal.code === 'internal') deps.log.error({ request_id, err: error }, 'handshake failed');
      refuseUpgrade(socket, refusal, request_id);
    }
  };
  return (request, socket, head) => void upgrade(request, socket, head);
}

function serve({ config, notices, streams, log }: SocketDeps, socket: WebSocket, clientId: string): void {
  let isAlive = true;
  const send = (message: object) => {
    if (socket.bufferedAmount > MAX_BUFFERED_BYTES) {
      socket.close(TOO_SLOW, 'too slow');
      socket.terminate();
    } else socket.send(JSON.stringify(message));
  };
  const changed = ({ client_id, revision, job }: JobChange) => {
    if (client_id === clientId) send({ type: 'job', revision, job });
  };
  const resync = () => send({ type: 'resync' });
  const ping = setInterval(() => {
    if (!isAlive) socket.terminate();
    isAlive = false;
    if (socket.readyState === socket.OPEN) socket.ping();
  }, PING_EVERY_MS);
  const resyncing = setInterval(resync, config.stream_keep_alive_sec * 1000 * KEEP_ALIVES_PER_RESYNC);
  const leave = streams.join(clientId, () => socket.close(RESTARTING, 'restarting'));
  socket.on('pong', () => {
    isAlive = true;
  });
  socket.on('error', (error) => log.debug({ err: error }, 'a stream socket failed'));
  socket.on('close', () => {
    clearInterval(ping);
    clearInterval(resyncing);
    leave();
    notices.off('change', changed);
    notices.off('resync', resync);
  });
  notices.on('change', changed);
  notices.on('resync', resync);
  resync();
}

/** The headers of a handshake, with a key among the subprotocols as if it stood in its header. */
function headersOf(request: IncomingMessage): (name: string) => string | undefined {
  return (name) => {
    const given = [request.headers[name]].flat()[0];
    if (given !== undefined || name !== 'x-api-key') return given;
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((item) => item.trim());
    return offered.find((item) => item.startsWith(KEY_PROTOCOL))?.slice(KEY_PROTOCOL.length);
  };
}
