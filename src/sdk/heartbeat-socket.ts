import { type RawData, WebSocket } from 'ws';
import { readRetryAfter } from '../platform/retry-after.ts';
import { HubError } from './errors.ts';
import type { BeatReply, HeartbeatChannel } from './heartbeat-channel.ts';
import type { HeartbeatFrame, PendingCommand } from './types.ts';

/** Close codes of the heartbeat WebSocket. */
export const CLOSE = {
  restarting: 1012,
  session_unknown: 4401,
  replaced: 4409,
  too_fast: 4429,
} as const;

/** Larger than any frame of the hub: a command has 4 KiB of arguments at most. */
const MAX_FRAME_BYTES = 64 * 1024;

type ServerFrame =
  | ({ type: 'ack' } & Omit<BeatReply, 'commands'>)
  | ({ type: 'command' } & PendingCommand)
  | { type: 'error'; error: { code: HubError['code']; message: string; request_id?: string } };

/** The socket was closed. `closeCode` is one of CLOSE, or of RFC 6455 (1006: the connection broke). */
export class SocketClosedError extends Error {
  override readonly name = 'SocketClosedError';
  readonly closeCode: number;
  /** Over how long a replica that restarts wants its miners to return, ms. */
  readonly reconnectWithinMs: number | undefined;

  constructor(closeCode: number, reason: string) {
    super(`the heartbeat socket closed with ${closeCode}${reason === '' ? '' : ` (${reason})`}`);
    this.closeCode = closeCode;
    const within = /reconnect within (\d{1,6}) ms/.exec(reason)?.[1];
    this.reconnectWithinMs = within === undefined ? undefined : Number(within);
  }
}

export interface HeartbeatSocketOptions {
  /** Base URL of the hub, http or https. */
  readonly url: string;
  readonly sessionToken: string;
  /** Milliseconds for the handshake, and for the answer to each heartbeat. */
  readonly timeoutMs: number;
  readonly onCommand: (command: PendingCommand) => void;
  /** Called once, when the socket closes, whoever closed it. */
  readonly onClose: (socket: HeartbeatSocket) => void;
  /** Gives up connecting; an open socket is closed with `close`. */
  readonly signal: AbortSignal;
}

interface Waiting {
  readonly resolve: (reply: BeatReply) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** One WebSocket connection over which a miner beats. It never reconnects: that is the session's business. */
export class HeartbeatSocket implements HeartbeatChannel {
  readonly #socket: WebSocket;
  readonly #options: HeartbeatSocketOptions;
  #waiting: Waiting | undefined;
  #closed: Error | undefined;

  private constructor(socket: WebSocket, options: HeartbeatSocketOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  /**
   * Connects. The token goes in a header, where no access log shows it.
   * @throws HubError when the hub refuses or cannot be reached
   */
  static open(options: HeartbeatSocketOptions): Promise<HeartbeatSocket> {
    const address = `${options.url.replace(/^http/, 'ws')}/v1/miners/heartbeat`;
    const socket = new WebSocket(address, {
      headers: { Authorization: `Bearer ${options.sessionToken}` },
      handshakeTimeout: options.timeoutMs,
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      followRedirects: false,
    });
    const channel = new HeartbeatSocket(socket, options);
    const giveUp = () => socket.terminate();
    options.signal.addEventListener('abort', giveUp, { once: true });
    const opened = new Promise<HeartbeatSocket>((resolve, reject) => {
      socket.once('open', () => resolve(channel));
      socket.once('unexpected-response', (request, response) => {
        reject(refusal(response.statusCode ?? 0, response.headers['retry-after']));
        request.destroy();
      });
      socket.on('error', (cause) => {
        reject(new HubError('unreachable', `${options.url} cannot be reached (${cause.message})`, { cause }));
      });
      socket.on('message', (data, isBinary) => channel.#receive(data, isBinary));
      socket.once('close', (code, reason) => channel.#end(new SocketClosedError(code, reason.toString())));
    });
    return opened.finally(() => options.signal.removeEventListener('abort', giveUp));
  }

  beat(frame: HeartbeatFrame): Promise<BeatReply> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (this.#waiting !== undefined) throw new TypeError('a heartbeat is waiting for its answer');
    return new Promise((resolve, reject) => {
      const { timeoutMs, url } = this.#options;
      // An answer that comes later could not be told from the next one's: the connection is given up.
      const timer = setTimeout(
        () => this.#fail(new HubError('timeout', `${url} did not answer a heartbeat within ${timeoutMs} ms`)),
        timeoutMs,
      );
      this.#waiting = { resolve, reject, timer };
      this.#socket.send(JSON.stringify(frame));
    });
  }

  close(): void {
    if (this.#socket.readyState === WebSocket.CLOSED) return;
    this.#socket.close(1000);
    const timer = setTimeout(() => this.#socket.terminate(), this.#options.timeoutMs);
    this.#socket.once('close', () => clearTimeout(timer));
  }

  #receive(data: RawData, isBinary: boolean): void {
    const frame = isBinary ? undefined : readFrame(data.toString());
    if (frame === undefined) {
      this.#fail(new HubError('bad_answer', 'the hub sent an unreadable frame'));
      return;
    }
    if (frame.type === 'command') {
      this.#options.onCommand({ id: frame.id, name: frame.name, args: frame.args });
      return;
    }
    const waiting = this.#takeWaiting();
    if (frame.type === 'ack') {
      const { lease_expires_at, next_heartbeat_sec } = frame;
      waiting?.resolve({ lease_expires_at, next_heartbeat_sec, commands: [] });
      return;
    }
    const { code, message, request_id } = frame.error;
    waiting?.reject(new HubError(code, message, { requestId: request_id }));
  }

  #fail(error: HubError): void {
    this.#closed ??= error;
    this.#takeWaiting()?.reject(error);
    this.#socket.terminate();
  }

  #end(error: SocketClosedError): void {
    this.#closed ??= error;
    this.#takeWaiting()?.reject(this.#closed);
    this.#options.onClose(this);
  }

  #takeWaiting(): Waiting | undefined {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    clearTimeout(waiting?.timer);
    return waiting;
  }
}

function readFrame(text: string): ServerFrame | undefined {
  try {
    const frame = JSON.parse(text) as ServerFrame | null;
    return ['ack', 'command', 'error'].includes(frame?.type ?? '') ? (frame as ServerFrame) : undefined;
  } catch {
    return undefined; // The caller gives the connection up.
  }
}

function refusal(status: number, retryAfter: string | undefined): HubError {
  const codes: Record<number, HubError['code']> = {
    401: 'session_unknown',
    403: 'forbidden',
    429: 'rate_limited',
    503: 'unavailable',
  };
  return new HubError(codes[status] ?? 'bad_answer', `the hub refused the WebSocket with status ${status}`, {
    status,
    retryAfterMs: readRetryAfter(retryAfter),
  });
}
