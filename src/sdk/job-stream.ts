import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { errorFromAnswer, HubError } from './errors.ts';
import type { JobEvent } from './job-events.ts';
import type { Connection } from './reconnect.ts';
import type { Call, Transport } from './transport.ts';

/**
 * What a client hears of its jobs. After `resync`, which comes first on every connection, changes may have been missed: the jobs that
 * matter are to be read again.
 */
export type JobMessage = ({ readonly type: 'job' } & JobEvent) | { readonly type: 'resync' };

/** Three times the pause between the pings of the coordinator, ms. */
const MAX_SILENCE_MS = 60_000;
const MAX_FRAME_BYTES = 262_144;
/** Who reads so much slower than its jobs change is told to resync instead. */
const MAX_UNREAD = 10_000;

/** One socket on which the coordinator tells of all jobs of a client. */
export async function* jobMessagesOnce(
  transport: Transport,
  call: Call,
  works: () => void,
): Connection<JobMessage> {
  const url = transport.url;
  const socket = new WebSocket(url.replace(/^http/, 'ws') + call.path, {
    headers: { ...call.headers, ...call.sign?.('') },
    handshakeTimeout: transport.timeoutMs,
    maxPayload: MAX_FRAME_BYTES,
    perMessageDeflate: false,
    followRedirects: false,
  });
  const inbox = new Inbox(socket);
  const end = () => socket.terminate();
  call.signal?.addEventListener('abort', end, { once: true });
  try {
    call.signal?.throwIfAborted();
    for (;;) {
      const message = await inbox.next();
      works();
      yield message;
    }
  } catch (error) {
    if (error instanceof HubError && error.status === 0) transport.moveOn(url);
    throw error;
  } finally {
    call.signal?.removeEventListener('abort', end);
    inbox.close();
    socket.terminate();
  }
}

/** The messages of a socket, in their order, until it fails. */
class Inbox {
  readonly #socket: WebSocket;
  readonly #messages: JobMessage[] = [];
  readonly #silence: NodeJS.Timeout;
  #failure: HubError | undefined;
  #wake: () => void = () => {};

  constructor(socket: WebSocket) {
    this.#socket = socket;
    this.#silence = setTimeout(
      () => this.#fail(new HubError('timeout', 'the socket is silent')),
      MAX_SILENCE_MS,
    );
    socket.on('ping', () => this.#silence.refresh());
    socket.on('message', (data, isBinary) => this.#receive(isBinary ? '' : data.toString()));
    socket.on('error', (cause) =>
      this.#fail(new HubError('unreachable', `the socket failed (${cause.message})`, { cause })),
    );
    socket.on('close', (code) => this.#fail(new HubError('unreachable', `the socket closed with ${code}`)));
    socket.on('unexpected-response', (_, response) => void this.#refused(response));
  }

  /** @throws HubError when there are no more */
  async next(): Promise<JobMessage> {
    for (;;) {
      const message = this.#messages.shift();
      if (message !== undefined) return message;
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  close(): void {
    clearTimeout(this.#silence);
  }

  #receive(text: string): void {
    this.#silence.refresh();
    const message = messageIn(text);
    if (message === undefined)
      this.#fail(new HubError('bad_answer', 'the socket brought an unreadable message'));
    else if (this.#messages.length >= MAX_UNREAD) {
      this.#messages.length = 0;
      this.#fail(new HubError('unreachable', 'too many unread messages'));
    } else this.#messages.push(message);
    this.#wake();
  }

  async #refused(response: IncomingMessage): Promise<void> {
    const headers = new Headers({ 'Retry-After': response.headers['retry-after'] ?? '' });
    let text = '';
    try {
      for await (const chunk of response) if (text.length < MAX_FRAME_BYTES) text += chunk;
    } catch {
      // The status says enough.
    }
    this.#fail(errorFromAnswer(response.statusCode ?? 0, headers, text));
  }

  #fail(error: HubError): void {
    this.#failure ??= error;
    clearTimeout(this.#silence);
    this.#socket.terminate();
    this.#wake();
  }
}

function messageIn(text: string): JobMessage | undefined {
  try {
    const message = JSON.parse(text) as JobMessage | null;
    return ['job', 'resync'].includes(message?.type ?? '') ? (message as JobMessage) : undefined;
  } catch {
    return undefined; // The caller gives the connection up.
  }
}
