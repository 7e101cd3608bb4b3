import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Server, WebSocketServer } from 'ws';
import { toAppError, unavailable } from '../../platform/errors.ts';
import { createHandshakeLimit, type LimitHandshake } from '../../platform/rate-limit.ts';
import type { Subscriber } from '../../platform/subscriber.ts';
import { refuseUpgrade, requestIdOf, type UpgradeHandler } from '../../platform/upgrade.ts';
import type { HubDeps } from '../deps.ts';
import { openControlChannel } from './control.ts';
import type { MinerClaim } from './credentials.ts';
import { CLOSE, type Keeper, MinerSocket } from './socket-connection.ts';
import type { RawFrame } from './socket-frames.ts';
import { chooseProtocol, claimOf } from './socket-handshake.ts';
import { SocketProtocol } from './socket-protocol.ts';

type SocketDeps = Pick<HubDeps, 'config' | 'log' | 'metrics' | 'miners'>;

/** Where miners open their sockets. */
export const HEARTBEAT_PATH = '/v1/miners/heartbeat';

const SWEEP_EVERY_MS = 1_000;
/** How long a client may take to answer a close frame before it is cut off. */
const CLOSE_TIMEOUT_MS = 2_000;
/** No client splits a heartbeat; crumbs only cost memory. */
const MAX_FRAGMENTS = 64;
const MAX_BUFFERED_CHUNKS = 1_024;

const MIN_RECONNECT_SPREAD_MS = 1_000;

/** A stopping replica closes this many sockets at a time, so that not all miners come back in the same moment. */
const CLOSE_BATCH = 200;
const CLOSE_PAUSE_MS = 50;
/** Part of SHUTDOWN_TIMEOUT_SEC that the batches may take; however many sockets there are. */
const CLOSE_SHARE = 1 / 3;

/**
 * The miner sockets of one replica: handshakes, limits, the sweep of dead connections, the stop. Give `upgrade` to
 * `routeUpgrades` for HEARTBEAT_PATH.
 *
 * A handshake with a bad session is accepted and then closed with 4401, because a browser cannot see the status of a refused one.
 * The replica's own limits (WS_MAX_SOCKETS, RATE_LIMIT_DEFAULT_PER_SEC) refuse it with 503 and 429 before it costs a socket.
 */
export class MinerSockets {
  readonly #deps: SocketDeps;
  readonly #server: Server<typeof MinerSocket>;
  readonly #limitHandshake: LimitHandshake;
  readonly #protocol: SocketProtocol;
  readonly #keeper: Keeper;
  readonly #control: Subscriber;
  readonly #sweep: NodeJS.Timeout;
  #stopped: Promise<void> | undefined;

  constructor(deps: SocketDeps) {
    this.#deps = deps;
    const options = {
      noServer: true,
      WebSocket: MinerSocket,
      perMessageDeflate: false,
      maxPayload: deps.config.ws_max_frame_bytes,
      maxFragments: MAX_FRAGMENTS,
      maxBufferedChunks: MAX_BUFFERED_CHUNKS,
      autoPong: false,
      closeTimeout: CLOSE_TIMEOUT_MS,
      handleProtocols: chooseProtocol,
    };
    this.#server = new WebSocketServer(options);
    this.#limitHandshake = createHandshakeLimit(deps);
    this.#protocol = new SocketProtocol(deps);
    this.#keeper = {
      received: (socket, frame) => this.#received(socket, frame),
      pinged: (socket, data) => {
        if (this.#isSlowEnough(socket)) socket.answerPing(data);
      },
      ponged: (socket) => void this.#isSlowEnough(socket),
      failed: (socket, error) => this.#ending(socket, closeCodeOf(error)),
      ending: (socket, code) => this.#ending(socket, code),
      closed: (socket) => {
        deps.metrics.wsConnections.dec();
        this.#protocol.forget(socket);
      },
    };
    this.#control = openControlChannel(deps.config, deps.log, (minerId) => this.#protocol.noticed(minerId));
    this.#sweep = setInterval(() => this.#dropDead(), SWEEP_EVERY_MS);
  }

  /** Takes a handshake over. */
  readonly upgrade: UpgradeHandler = (request, socket, head) => {
    this.#admit(request, socket, head).catch((error: unknown) => {
      const refusal = toAppError(error);
      const request_id = requestIdOf(request);
      if (refusal.code === 'internal') this.#deps.log.error({ request_id, err: error }, 'handshake failed');
      refuseUpgrade(socket, refusal, request_id);
    });
  };

  /** Closes every socket with 1012, spread over a short time, and resolves when all are gone. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#closeAll();
    return this.#stopped;
  }

  async #admit(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    await this.#limitHandshake(request);
    if (this.#stopped !== undefined) throw unavailable('this replica');
    if (this.#server.clients.size >= this.#deps.config.ws_max_sockets) throw unavailable('another socket');
    this.#server.handleUpgrade(request, socket, head, (opened) => this.#opened(opened, request));
  }

  #opened(socket: MinerSocket, request: IncomingMessage): void {
    const claim = claimOf(request);
    socket.attach(this.#keeper, claim, requestIdOf(request), this.#deps.config.session_ttl_sec * 1000);
    this.#deps.metrics.wsConnections.inc();
    if (claim === undefined) socket.finish(CLOSE.session_unknown, 'a session_token is needed');
    else void this.#work(socket, claim, () => this.#protocol.greet(socket, claim));
  }

  #received(socket: MinerSocket, frame: RawFrame): void {
    const { claim } = socket;
    if (claim === undefined || !this.#isSlowEnough(socket)) return;
    if (socket.working) {
      // Read no further until this is done. What was read with it is no more than the token bucket let pass.
      socket.waiting ??= [];
      socket.waiting.push(frame);
      socket.pause();
    } else void this.#work(socket, claim, () => this.#protocol.answer(socket, claim, frame));
  }

  /** Frames of a socket are worked on one by one, in order. */
  async #work(socket: MinerSocket, claim: MinerClaim, first: () => Promise<void>): Promise<void> {
    socket.working = true;
    try {
      await first();
      for (let frame = next(socket); frame !== undefined; frame = next(socket)) {
        await this.#protocol.answer(socket, claim, frame);
      }
    } catch (error) {
      this.#deps.log.error({ request_id: socket.requestId, err: error }, 'socket failed');
      socket.finish(CLOSE.internal, 'internal error');
    } finally {
      socket.working = false;
      socket.waiting = undefined;
      if (socket.isPaused) socket.resume();
    }
  }

  #isSlowEnough(socket: MinerSocket): boolean {
    if (!socket.isOpen) return false;
    if (socket.takeToken(this.#deps.config.rate_limit_heartbeat_per_sec)) return true;
    socket.finish(CLOSE.too_fast, 'too many frames');
    return false;
  }

  #ending({ requestId, claim }: MinerSocket, code: number): void {
    this.#deps.metrics.wsClosed.inc({ code });
    this.#deps.log.debug({ request_id: requestId, miner_id: claim?.minerId, code }, 'closing a socket');
  }

  /** A connection may break without a word; then only the silence of the miner tells. */
  #dropDead(): void {
    const nowMs = performance.now();
    for (const socket of this.#server.clients) {
      if (socket.aliveUntilMs < nowMs) socket.finish(CLOSE.session_unknown, 'no heartbeat within the lease');
    }
  }

  async #closeAll(): Promise<void> {
    const sockets = [...this.#server.clients];
    const maxPauses = (this.#deps.config.shutdown_timeout_sec * 1000 * CLOSE_SHARE) / CLOSE_PAUSE_MS;
    const batch = Math.max(CLOSE_BATCH, Math.ceil(sockets.length / maxPauses));
    const spreadMs = reconnectSpreadMs(sockets.length, this.#deps.config.heartbeat_target_per_sec);
    for (const [i, socket] of sockets.entries()) {
      if (i > 0 && i % batch === 0) await sleep(CLOSE_PAUSE_MS);
      socket.finish(CLOSE.restarting, `replica is restarting, reconnect within ${spreadMs} ms`);
    }
    await new Promise((resolve) => this.#server.close(resolve));
    clearInterval(this.#sweep);
    this.#control.close();
  }
}

/** Over how long, in ms, the miners of a replica that restarts return, so that they do not exceed HEARTBEAT_TARGET_PER_SEC. */
export function reconnectSpreadMs(sockets: number, targetPerSec: number): number {
  return Math.max(MIN_RECONNECT_SPREAD_MS, Math.ceil((sockets / targetPerSec) * 1000));
}

function next(socket: MinerSocket): RawFrame | undefined {
  return socket.isOpen ? socket.waiting?.shift() : undefined;
}

/** What `ws` closes with by itself when a client breaks the protocol. */
function closeCodeOf({ code }: NodeJS.ErrnoException): number {
  if (code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH') return CLOSE.too_large;
  if (code === 'WS_ERR_TOO_MANY_BUFFERED_PARTS') return CLOSE.bad_frames;
  return code === 'WS_ERR_INVALID_UTF8' ? CLOSE.bad_text : CLOSE.protocol_error;
}
