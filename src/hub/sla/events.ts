import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import * as v from 'valibot';
import { type WebSocket, WebSocketServer } from 'ws';
import { createIdentify, type Identify } from '../../platform/auth.ts';
import { invalidAt, toAppError, unavailable } from '../../platform/errors.ts';
import { eventsChannel } from '../../platform/keys.ts';
import { createHandshakeLimit, type LimitHandshake } from '../../platform/rate-limit.ts';
import { addressSet } from '../../platform/settings.ts';
import { type Subscriber, subscribe } from '../../platform/subscriber.ts';
import {
  addressOf,
  refuseUpgrade,
  requestIdOf,
  splitTarget,
  type UpgradeHandler,
} from '../../platform/upgrade.ts';
import type { HubDeps } from '../deps.ts';
import { type Alert, type AlertMessage, newestAlertId, readAlerts } from './publish.ts';

type EventDeps = Pick<HubDeps, 'config' | 'log' | 'metrics' | 'db'>;

/** Where coordinators and administrators hear of alerts. */
export const EVENTS_PATH = '/v1/events';

const MAX_WATCHERS = 1_000;
/** Alerts of the past that are read at a time; a watcher gets all that are kept, page by page. */
const REPLAY_PAGE = 500;
const MAX_FRAME_BYTES = 1_024;
/** Past this nothing is sent to a watcher as it comes: it gets the rest from Postgres, as fast as it reads. */
const MAX_BUFFERED_BYTES = 1_048_576;
const PING_EVERY_MS = 15_000;
const CLOSE_TIMEOUT_MS = 5_000;
const RESTARTING = 1012;
const TOO_SLOW = 1013;

const Message: v.GenericSchema<unknown, AlertMessage> = v.object({
  id: v.number(),
  type: v.string(),
  created_at: v.string(),
  data: v.record(v.string(), v.unknown()),
  after: v.optional(v.number(), 0),
});

/** What is known of a socket. */
interface Watcher {
  readonly socket: WebSocket;
  alive: boolean;
  /** The newest alert that it was sent, or that it starts after; undefined while that is not known. */
  lastId: number | undefined;
  /** What comes meanwhile it is not sent: it is read like the rest. */
  isCatchingUp: boolean;
  /** Whether alerts may have come that it has not been sent since it began to catch up. */
  isStale: boolean;
}

/**
 * The watchers of one replica. Each gets every alert as a text frame of JSON, once and by rising id, in which they are committed:
 * from now on, or with `?after=<id>` from the one after that. What Redis did not pass on is read from Postgres once it
 * is back or with the next alert, and so is what comes faster than a watcher reads. What a watcher sends is not read.
 */
export class EventSockets {
  readonly #deps: EventDeps;
  readonly #limitHandshake: LimitHandshake;
  readonly #identify: Identify;
  readonly #server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
  });
  readonly #watchers = new Map<WebSocket, Watcher>();
  readonly #ping: NodeJS.Timeout;
  /** Opened for the first watcher. */
  #channel: Subscriber | undefined;
  #stopped: Promise<void> | undefined;

  constructor(deps: EventDeps) {
    this.#deps = deps;
    this.#limitHandshake = createHandshakeLimit(deps);
    this.#identify = createIdentify(deps.config);
    this.#ping = setInterval(() => this.#dropDead(), PING_EVERY_MS);
  }

  /** Takes a handshake over. */
  readonly upgrade: UpgradeHandler = (request, socket, head) => {
    this.#admit(request, socket, head).catch((error: unknown) =>
      refuseUpgrade(socket, toAppError(error), requestIdOf(request)),
    );
  };

  /** Closes every watcher with 1012 and resolves when all are gone. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= new Promise((resolve) => {
      clearInterval(this.#ping);
      this.#channel?.close();
      for (const watcher of this.#server.clients) {
        watcher.close(RESTARTING, 'replica is restarting');
        setTimeout(() => watcher.terminate(), CLOSE_TIMEOUT_MS).unref();
      }
      this.#server.close(() => resolve());
    });
    return this.#stopped;
  }

  async #admit(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    await this.#limitHandshake(request);
    const address = addressOf(request, addressSet(this.#deps.config.trusted_proxies));
    const header = (name: string) => [request.headers[name.toLowerCase()]].flat()[0];
    this.#identify(address, header, ['coordinator', 'admin']);
    if (this.#stopped !== undefined) throw unavailable('this replica');
    if (this.#server.clients.size >= MAX_WATCHERS) throw unavailable('another watcher');
    const after = afterOf(request);
    this.#server.handleUpgrade(request, socket, head, (watcher) => this.#opened(watcher, after));
  }

  #opened(socket: WebSocket, after: number | undefined): void {
    const watcher: Watcher = {
      socket,
      alive: true,
      lastId: after,
      isCatchingUp: false,
      isStale: false,
    };
    this.#watchers.set(socket, watcher);
    socket.on('close', () => this.#watchers.delete(socket));
    socket.on('pong', () => {
      watcher.alive = true;
    });
    socket.on('error', () => socket.terminate());
    this.#channel ??= this.#subscribe();
    void this.#catchUp(watcher);
  }

  /** Sends what was missed, until nothing is. */
  async #catchUp(watcher: Watcher): Promise<void> {
    watcher.isStale = true;
    if (watcher.isCatchingUp) return;
    watcher.isCatchingUp = true;
    try {
      watcher.lastId ??= await this.#deps.db.run(newestAlertId);
      while (watcher.isStale) await this.#replay(watcher, watcher.lastId);
    } catch (error) {
      this.#deps.log.warn({ err: error }, 'alerts of the past not sent');
      // Who asked for no past misses nothing: there are no new alerts either.
      if (watcher.lastId !== undefined) watcher.socket.close(TOO_SLOW, 'the past is away, try again later');
    }
    watcher.isCatchingUp = false;
  }

  async #replay(watcher: Watcher, from: number): Promise<void> {
    const { socket } = watcher;
    watcher.isStale = false;
    let after = from;
    let alerts: Alert[];
    do {
      alerts = await this.#deps.db.run((orm) => readAlerts(orm, after, REPLAY_PAGE));
      // A watcher that reads slowly is waited for, as long as it answers pings.
      await Promise.all(alerts.map((alert) => written(socket, JSON.stringify(alert))));
      after = alerts.at(-1)?.id ?? after;
      watcher.lastId = after;
    } while (alerts.length === REPLAY_PAGE && socket.readyState === socket.OPEN);
  }

  #subscribe(): Subscriber {
    const { config, log } = this.#deps;
    return subscribe(config, log, {
      name: 'pool-hub-events',
      channel: eventsChannel(config.redis_prefix),
      message: Message,
      onMessage: (message) => this.#watchers.forEach((watcher) => void this.#pass(watcher, message)),
      // What was published before is in Postgres.
      onSubscribed: () => this.#watchers.forEach((watcher) => void this.#catchUp(watcher)),
    });
  }

  /** Sends an alert that has just come, unless the watcher has it, or is not there yet. */
  #pass(watcher: Watcher, { after, ...alert }: AlertMessage): void {
    const { socket, lastId = after } = watcher;
    if (socket.readyState !== socket.OPEN || alert.id <= lastId) return;
    if (watcher.isCatchingUp || after > lastId || socket.bufferedAmount > MAX_BUFFERED_BYTES) {
      void this.#catchUp(watcher);
      return;
    }
    watcher.lastId = alert.id;
    socket.send(JSON.stringify(alert));
  }

  #dropDead(): void {
    for (const watcher of this.#watchers.values()) {
      if (!watcher.alive) watcher.socket.terminate();
      watcher.alive = false;
      watcher.socket.ping();
    }
  }
}

/** The alert that a watcher has seen last. */
function afterOf(request: IncomingMessage): number | undefined {
  const after = new URLSearchParams(splitTarget(request).query).get('after');
  if (after === null) return undefined;
  if (!/^\d{1,15}$/.test(after)) throw invalidAt('after', 'must be the id of an alert');
  return Number(after);
}

/** Resolves when the kernel has it, or nobody will. */
function written(socket: WebSocket, text: string): Promise<void> {
  return new Promise((resolve) => socket.send(text, () => resolve()));
}
