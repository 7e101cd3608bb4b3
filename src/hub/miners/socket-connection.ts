import { type RawData, WebSocket } from 'ws';
import type { MinerClaim } from './credentials.ts';
import type { CommandFrame, RawFrame, ServerFrame } from './socket-frames.ts';

/** How connections end: the codes of the protocol (RFC 6455, 7.4.1; IANA's registry) and our own, which begin at 4000. */
export const CLOSE = {
  /** Sent by `ws` itself, as are 1007 and 1009. */
  protocol_error: 1002,
  /** Never sent: the connection was cut without a close frame. */
  cut_off: 1006,
  bad_text: 1007,
  bad_frames: 1008,
  too_large: 1009,
  internal: 1011,
  restarting: 1012,
  session_unknown: 4401,
  replaced: 4409,
  too_fast: 4429,
} as const;

/** A miner that lets more than this wait on our side does not read: it is cut off. */
const MAX_BUFFERED_BYTES = 262_144;
/** Past this, commands wait in Redis instead; the next heartbeat sends on. */
const COMMANDS_BUFFERED_BYTES = 131_072;

const NOTHING_SENT = '0-0';

/** Who looks after a socket. */
export interface Keeper {
  received(socket: MinerSocket, frame: RawFrame): void;
  pinged(socket: MinerSocket, data: Buffer): void;
  ponged(socket: MinerSocket): void;
  failed(socket: MinerSocket, error: Error): void;
  closed(socket: MinerSocket): void;
  /** The hub ends the connection, with this close code. */
  ending(socket: MinerSocket, code: number): void;
}

/**
 * The connection of one miner. All state of a connection is a field here and all listeners are shared functions: a replica
 * holds tens of thousands of these, so none has a closure or a timer of its own.
 */
export class MinerSocket extends WebSocket {
  /** Undefined when the handshake carried nothing like a session token. */
  claim: MinerClaim | undefined;
  /** Names the handshake in errors and logs. */
  requestId = '';
  /** Whether the registry has accepted the claim. Until then the socket gets nothing that is meant for the miner. */
  proven = false;
  /** The connection is given up when no heartbeat came before this; ms of `performance.now()`. */
  aliveUntilMs = 0;
  /** Refused frames in a row. */
  badFrames = 0;
  /** A frame is being worked on; `waiting` holds those that had arrived together with it. */
  working = false;
  waiting: RawFrame[] | undefined;
  /** The registry is being asked about the session; `checkAgain` when something happened meanwhile. */
  checking = false;
  checkAgain = false;
  #keeper: Keeper | undefined;
  #leaseMs = 0;
  #tokens = 0;
  #countedAtMs = 0;
  #sentUpTo = NOTHING_SENT;
  #resendAtMs = 0;

  /** Hands the connection to its keeper; `leaseMs` is how long it may take until its claim is proven. */
  attach(keeper: Keeper, claim: MinerClaim | undefined, requestId: string, leaseMs: number): void {
    this.#keeper = keeper;
    this.claim = claim;
    this.requestId = requestId;
    this.prolong(leaseMs);
    this.on('message', onMessage);
    this.on('ping', onPing);
    this.on('pong', onPong);
    this.on('error', onError);
    this.on('close', onClose);
  }

  get keeper(): Keeper | undefined {
    return this.#keeper;
  }

  get isOpen(): boolean {
    return this.readyState === WebSocket.OPEN;
  }

  /** Gives the connection another lease from now: as long as the last one, or `leaseMs`. */
  prolong(leaseMs = this.#leaseMs): void {
    this.#leaseMs = leaseMs;
    this.aliveUntilMs = performance.now() + leaseMs;
  }

  /** Token bucket: `perSec` frames a second, and as many more at once. @returns false for a frame too many */
  takeToken(perSec: number): boolean {
    const nowMs = performance.now();
    const refilled = this.#tokens + ((nowMs - this.#countedAtMs) / 1000) * perSec;
    const tokens = this.#countedAtMs === 0 ? 2 * perSec : Math.min(2 * perSec, refilled);
    this.#countedAtMs = nowMs;
    this.#tokens = Math.max(0, tokens - 1);
    return tokens >= 1;
  }

  /** Sends a frame, unless the connection is closing; cuts it off when the miner does not read. */
  say(frame: ServerFrame): void {
    if (this.#takesMore()) this.send(JSON.stringify(frame));
  }

  /** Answers a ping by hand, because pongs too pile up before a client that does not read. */
  answerPing(data: Buffer): void {
    if (this.#takesMore()) this.pong(data);
  }

  /**
   * Sends the commands that were not yet sent on this connection; and all that wait, once a lease has gone by since that was done last: a
   * miner beats three times in a lease, so one that has not acknowledged by then may never have seen them.
   * @param commands oldest first
   */
  deliver(commands: readonly CommandFrame[]): void {
    if (commands.length === 0) return;
    const nowMs = performance.now();
    if (nowMs >= this.#resendAtMs) {
      this.#sentUpTo = NOTHING_SENT;
      this.#resendAtMs = nowMs + this.#leaseMs;
    }
    for (const command of commands) {
      if (this.bufferedAmount > COMMANDS_BUFFERED_BYTES) return;
      if (!isLater(command.id, this.#sentUpTo)) continue;
      this.say(command);
      this.#sentUpTo = command.id;
    }
  }

  /** Closes with a code and a reason, if that was not done. A client that does not answer is cut off after the close time-out. */
  finish(code: number, reason: string): void {
    if (!this.isOpen) return;
    this.#keeper?.ending(this, code);
    this.close(code, reason);
    // The answer to the close frame has to be read.
    if (this.isPaused) this.resume();
  }

  #takesMore(): boolean {
    if (!this.isOpen) return false;
    if (this.bufferedAmount <= MAX_BUFFERED_BYTES) return true;
    this.#keeper?.ending(this, CLOSE.cut_off);
    this.terminate();
    return false;
  }
}

function onMessage(this: WebSocket, data: RawData, isBinary: boolean): void {
  const socket = this as MinerSocket;
  // The binary type of a server's socket is `nodebuffer`.
  socket.keeper?.received(socket, isBinary ? null : (data as Buffer));
}

function onPing(this: WebSocket, data: Buffer): void {
  const socket = this as MinerSocket;
  socket.keeper?.pinged(socket, data);
}

function onPong(this: WebSocket): void {
  const socket = this as MinerSocket;
  socket.keeper?.ponged(socket);
}

function onError(this: WebSocket, error: Error): void {
  const socket = this as MinerSocket;
  socket.keeper?.failed(socket, error);
}

function onClose(this: WebSocket): void {
  const socket = this as MinerSocket;
  socket.keeper?.closed(socket);
}

/** Whether a stream id (`<ms>-<sequence>`) comes after another. */
function isLater(id: string, than: string): boolean {
  const [ms, sequence] = id.split('-').map(Number) as [number, number];
  const [thanMs, thanSequence] = than.split('-').map(Number) as [number, number];
  return ms > thanMs || (ms === thanMs && sequence > thanSequence);
}
