import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BackoffLimits, fullJitterMs } from './backoff.ts';
import { CommandInbox } from './command-inbox.ts';
import { HubError } from './errors.ts';
import { type BeatReply, type HeartbeatChannel, httpChannel } from './heartbeat-channel.ts';
import { CLOSE, HeartbeatSocket, SocketClosedError } from './heartbeat-socket.ts';
import type { HubClient } from './hub-client.ts';
import type {
  HeartbeatFrame,
  PendingCommand,
  RegisterAnswer,
  RegisterRequest,
  UpdateRequest,
} from './types.ts';

export interface MinerSessionOptions {
  readonly client: HubClient;
  /** What to register; asked again at each registration, so that it may change meanwhile. */
  readonly profile: () => RegisterRequest;
  /** What to say in a heartbeat; `ts` and `ack` are added. */
  readonly readings: () => HeartbeatFrame;
  readonly transport: 'ws' | 'http';
  /** Carries a command out. What it throws leaves the command unacknowledged, so that it comes again. */
  readonly onCommand: (command: PendingCommand) => void | Promise<void>;
  /** Milliseconds between heartbeats, instead of what the server asks for. */
  readonly intervalMs?: number | undefined;
}

/** What happens in a session, for logs and counters. */
export interface MinerSessionEvents {
  registered: [answer: RegisterAnswer];
  /** A heartbeat was answered, after `latencyMs`. */
  beat: [latencyMs: number];
  /** The connection or a call failed; the session goes on by itself after `retryInMs`. */
  interrupted: [error: Error, retryInMs: number];
  command: [command: PendingCommand];
  command_failed: [command: PendingCommand, error: unknown];
}

/** Why `run` came back: `stop` was called, or another registration of the same miner took the session over. */
export type SessionEnd = 'stopped' | 'replaced';

const RECONNECT: BackoffLimits = { baseMs: 250, capMs: 15_000 };

/** A replica that restarts sends all its miners away at once; they spread over the time that it says, else over this, ms. */
const MOVE_SPREAD_MS = 1_000;

/** A socket that beat too fast stays away at least this long, ms. */
const TOO_FAST_PAUSE_MS = 2_000;

/** What is worth a heartbeat of its own comes in batches (commands, jobs): it waits this long for the rest, ms. */
const SOON_MS = 250;

/**
 * A miner's life with the hub: registers, beats at the server's interval over WebSocket or HTTP, has commands carried out and
 * acknowledges them, reconnects with backoff and full jitter, registers again when its session is unknown (4401), moves on when a
 * replica restarts (1012) and gives way to another registration of the same miner (4409).
 */
export class MinerSession extends EventEmitter<MinerSessionEvents> {
  readonly #options: MinerSessionOptions;
  readonly #inbox: CommandInbox;
  readonly #stopping = new AbortController();
  #channel: HeartbeatChannel | undefined;
  #token: string | undefined;
  /** Replica that the socket is or was open to. */
  #socketUrl: string | undefined;
  #failures = 0;
  #soon: NodeJS.Timeout | undefined;
  #woken = false;
  #endPause: () => void = () => {};

  constructor(options: MinerSessionOptions) {
    super();
    this.#options = options;
    this.#inbox = new CommandInbox({
      handle: async (command) => {
        await options.onCommand(command);
        this.emit('command', command);
      },
      onReady: () => this.beatSoon(),
      onFailed: (command, error) => this.emit('command_failed', command, error),
    });
  }

  /**
   * Runs until `stop`, or until another registration takes over. Call it once.
   * @throws HubError when the hub refuses the miner for good: its key, its profile
   */
  async run(): Promise<SessionEnd> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        this.#token ??= await this.#register();
        await this.#beatUntilClosed(this.#token);
      } catch (error) {
        if (signal.aborted) break;
        if (error instanceof SocketClosedError && error.closeCode === CLOSE.replaced) return 'replaced';
        await this.#recover(error);
      }
    }
    return 'stopped';
  }

  /** Ends `run` and closes the connection. The session stays valid: `update` and `logout` still work. */
  stop(): void {
    this.#stopping.abort();
    clearTimeout(this.#soon);
    this.#channel?.close();
    this.#wake();
  }

  /** Whether the hub has taken it in, and has not forgotten it as far as it said. */
  get isRegistered(): boolean {
    return this.#token !== undefined;
  }

  /** Changes the profile. @throws HubError `session_unknown` before the first registration */
  async update(change: UpdateRequest): Promise<void> {
    const { commands } = await this.#options.client.update(this.#knownToken(), change);
    for (const command of commands) this.#inbox.take(command);
  }

  /** Leaves the registry at once; call it after `stop`. */
  async logout(): Promise<void> {
    if (this.#token !== undefined) await this.#options.client.logout(this.#token);
  }

  /** Sends the next heartbeat within a moment instead of when it is due. */
  beatSoon(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#wake();
    }, SOON_MS);
  }

  async #register(): Promise<string> {
    const { client, profile } = this.#options;
    const answer = await client.register(profile(), { signal: this.#stopping.signal });
    if (typeof answer.session_token !== 'string')
      throw new HubError('bad_answer', 'the answer to the registration has no session_token');
    this.emit('registered', answer);
    return answer.session_token;
  }

  async #beatUntilClosed(token: string): Promise<never> {
    const channel = await this.#open(token);
    this.#channel = channel;
    try {
      for (;;) {
        await this.#pause(await this.#beat(channel));
        this.#stopping.signal.throwIfAborted();
      }
    } finally {
      this.#channel = undefined;
      channel.close();
    }
  }

  async #open(token: string): Promise<HeartbeatChannel> {
    const { client, transport } = this.#options;
    if (transport === 'http') return httpChannel(client, token);
    const { url, timeoutMs } = client.transport;
    this.#socketUrl = url;
    return await HeartbeatSocket.open({
      url,
      sessionToken: token,
      timeoutMs,
      onCommand: (command) => this.#inbox.take(command),
      onClose: (socket) => {
        // A socket that was given up closes later, when another one has taken its place.
        if (socket === this.#channel) this.#wake();
      },
      signal: this.#stopping.signal,
    });
  }

  /** @returns milliseconds until the next heartbeat is due */
  async #beat(channel: HeartbeatChannel): Promise<number> {
    const acks = this.#inbox.acks();
    const startedMs = performance.now();
    let reply: BeatReply;
    try {
      reply = await channel.beat({ ...this.#options.readings(), ts: Date.now(), ack: acks });
    } catch (error) {
      // The hub answered that it cannot serve now: the connection is good, and another one would get the same answer.
      if (!(error instanceof HubError) || error.code !== 'unavailable') throw error;
      return this.#backOff(error);
    }
    // What waits for it would not wait at all.
    if (!(reply.next_heartbeat_sec > 0))
      throw new HubError('bad_answer', 'the answer to a heartbeat has no next_heartbeat_sec');
    this.emit('beat', performance.now() - startedMs);
    this.#failures = 0;
    this.#inbox.acknowledged(acks);
    for (const command of reply.commands) this.#inbox.take(command);
    return this.#options.intervalMs ?? reply.next_heartbeat_sec * 1000;
  }

  /** Waits until the next heartbeat is due, or until something wakes it: an acknowledgement, a closed socket, a stop. */
  async #pause(ms: number): Promise<void> {
    if (!this.#woken) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.#endPause = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#woken = false;
    this.#endPause = () => {};
  }

  #wake(): void {
    this.#woken = true;
    this.#endPause();
  }

  async #recover(error: unknown): Promise<void> {
    if (!(error instanceof HubError) && !(error instanceof SocketClosedError)) throw error;
    if (error instanceof HubError && error.isFinal) throw error;
    // Calls move on by themselves; for a socket it is done here.
    const lost = error instanceof SocketClosedError || error.status === 0;
    if (lost && this.#socketUrl !== undefined) this.#options.client.transport.moveOn(this.#socketUrl);
    if (isSessionUnknown(error)) this.#token = undefined;
    const waitMs = this.#backOff(error);
    await sleep(waitMs, undefined, { signal: this.#stopping.signal }).catch(() => {}); // Rejects only for `stop`.
  }

  /** Counts a failure. @returns milliseconds to wait after it */
  #backOff(error: HubError | SocketClosedError): number {
    let waitMs = fullJitterMs(this.#failures, RECONNECT);
    if (error instanceof HubError) waitMs += error.retryAfterMs ?? 0;
    else if (error.closeCode === CLOSE.restarting) {
      waitMs = Math.random() * (error.reconnectWithinMs ?? MOVE_SPREAD_MS);
    } else if (error.closeCode === CLOSE.too_fast) waitMs += TOO_FAST_PAUSE_MS;
    this.#failures += 1;
    this.emit('interrupted', error, waitMs);
    return waitMs;
  }

  #knownToken(): string {
    if (this.#token === undefined) throw new HubError('session_unknown', 'the miner is not registered yet');
    return this.#token;
  }
}

function isSessionUnknown(error: HubError | SocketClosedError): boolean {
  return error instanceof HubError
    ? error.code === 'session_unknown'
    : error.closeCode === CLOSE.session_unknown;
}
