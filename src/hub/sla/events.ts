import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { createIdentify, type Identify } from '../../platform/auth.ts';
import { clientAddress } from '../../platform/client-address.ts';
import { toAppError, unavailable } from '../../platform/errors.ts';
import { eventsChannel } from '../../platform/keys.ts';
import { connectRedis, type RedisClient } from '../../platform/redis.ts';
import { addressSet } from '../../platform/settings.ts';
import { refuseUpgrade, requestIdOf, splitTarget, type UpgradeHandler } from '../../platform/upgrade.ts';
import type { HubDeps } from '../deps.ts';
import { type Alert, newestAlertId, readAlerts } from './publish.ts';

type EventDeps = Pick<HubDeps, 'config' | 'log' | 'db'>;

/** Where coordinators and administrators hear of alerts. */
export const EVENTS_PATH = '/v1/events';

const MAX_WATCHERS = 1_000;
/** Alerts of the past that are read at a time; a watcher gets all that are kept, page by page. */
const REPLAY_PAGE = 500;
/** Alerts that may come while a watcher is still at those of the past. */
const MAX_HELD = 1_000;
const MAX_FRAME_BYTES = 1_024;
const MAX_RECENT = 500;
/** A watcher that reads no more is dropped, not buffered. */
const MAX_BUFFERED_BYTES = 1_048_576;
const PING_EVERY_MS = 15_000;
const KEEP_ALIVE_MS = 5_000;
const RESTARTING = 1012;
const TOO_SLOW = 1013;

/** What is known of a socket. */
interface Watcher {
  readonly socket: WebSocket;
  alive: boolean;
  /** The newest alert that it was sent, or that it starts after; undefined while that is not known. */
  lastId: number | undefined;
  /** Alerts that came while it catches up; undefined when it does not. */
  held: Alert[] | undefined;
  /** Ids of the last alerts that it was sent: one that is read and then announced too is sent once. */
  readonly recent: Set<number>;
  /** Whether alerts may have been missed since it began to catch up. */
  isStale: boolean;
}

/**
 * The watchers of one replica. Each gets every alert as a text frame of JSON, at least once and by rising id: from now on,
 * or with `?after=<id>` from the one after that. What Redis did not pass on, while it was away, is read from Postgres
 * when it is back. What a watcher sends is not read.
 */
export class EventSockets {
  readonly #deps: EventDeps;
  readonly #identify: Identify;
  readonly #server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
  });
  readonly #watchers = new Map<WebSocket, Watcher>();
  readonly #ping: NodeJS.Timeout;
  #redis: RedisClient | undefined;
  #stopped: Promise<void> | undefined;

  constructor(deps: EventDeps) {
    this.#deps = deps;
    this.#identify = createIdentify(deps.config);
    this.#ping = setInterval(() => this.#dropDead(), PING_EVERY_MS);
  }

  /** Takes a handshake over. */
  readonly upgrade: UpgradeHandler = (request, socket, head) => {
    try {
      this.#admit(request, socket, head);
    } catch (error) {
      refuseUpgrade(socket, toAppError(error), requestIdOf(request));
    }
  };

  /** Closes every watcher with 1012 and resolves when all are gone. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= new Promise((resolve) => {
      clearInterval(this.#ping);
      this.#redis?.disconnect();
      for (const watcher of this.#server.clients) {
        watcher.close(RESTARTING, 'replica is restarting');
        setTimeout(() => watcher.terminate(), KEEP_ALIVE_MS).unref();
      }
      this.#server.close(() => resolve());
    });
    return this.#stopped;
  }

  #admit(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { headers } = request;
    const address = clientAddress(
      request.socket.remoteAddress,
      [headers['x-forwarded-for']].flat().join(','),
      addressSet(this.#deps.config.trusted_proxies),
    );
    const header = (name: string) => [headers[name.toLowerCase()]].flat()[0];
    this.#identify(address, header, ['coordinator', 'admin']);
    if (this.#stopped !== undefined) throw unavailable('this replica');
    if (this.#server.clients.size >= MAX_WATCHERS) throw unavailable('another watcher');
    const after = Number(new URLSearchParams(splitTarget(request).query).get('after') ?? Number.NaN);
    this.#server.handleUpgrade(request, socket, head, (watcher) => this.#opened(watcher, after));
  }

  #opened(socket: WebSocket, after: number): void {
    const isResumed = Number.isSafeInteger(after) && after >= 0;
    const watcher: Watcher = {
      socket,
      alive: true,
      lastId: isResumed ? after : undefined,
      held: undefined,
      recent: new Set(),
      isStale: true,
    };
    this.#watchers.set(socket, watcher);
    socket.on('close', () => this.#watchers.delete(socket));
    socket.on('pong', () => {
      watcher.alive = true;
    });
    socket.on('error', () => socket.terminate());
    this.#redis ??= this.#subscribe();
    void this.#catchUp(watcher);
  }

  /** Sends what was missed, then what came meanwhile. */
  async #catchUp(watcher: Watcher): Promise<void> {
    watcher.isStale = true;
    if (watcher.held !== undefined) return;
    watcher.held = [];
    try {
      watcher.lastId ??= await this.#deps.db.run(newestAlertId);
      while (watcher.isStale) await this.#replay(watcher);
    } catch (error) {
      this.#deps.log.warn({ err: error }, 'alerts of the past not sent');
      // Who asked for no past misses nothing: there are no new alerts either.
      if (watcher.lastId !== undefined) watcher.socket.close(TOO_SLOW, 'the past is away, try again later');
    }
    const { held } = watcher;
    watcher.held = undefined;
    for (const alert of held) pass(watcher, alert);
  }

  async #replay(watcher: Watcher): Promise<void> {
    const { socket } = watcher;
    watcher.isStale = false;
    let alerts: Alert[];
    do {
      const after = watcher.lastId ?? 0;
      alerts = await this.#deps.db.run((orm) => readAlerts(orm, after, REPLAY_PAGE));
      // A watcher that reads slowly is waited for, as long as it answers pings.
      await Promise.all(alerts.map((alert) => written(socket, JSON.stringify(alert))));
      for (const { id } of alerts) remember(watcher, id);
      watcher.lastId = alerts.at(-1)?.id ?? after;
    } while (alerts.length === REPLAY_PAGE && socket.readyState === socket.OPEN);
  }

  /** On a connection of its own, opened for the first watcher. */
  #subscribe(): RedisClient {
    const { config, log } = this.#deps;
    const channel = eventsChannel(config.redis_prefix);
    const redis = connectRedis(
      {
        url: config.redis_url ?? '',
        clusterNodes: config.redis_cluster_nodes,
        commandTimeoutMs: config.redis_command_timeout_ms,
      },
      'pool-hub-events',
      { enableAutoPipelining: false, autoResubscribe: false, keepAlive: KEEP_ALIVE_MS },
    );
    redis.on('error', (error: Error) => log.debug({ err: error }, 'event channel is away'));
    redis.on('ready', () => {
      redis.subscribe(channel).then(
        // What was published before is in Postgres.
        () => this.#watchers.forEach((watcher) => void this.#catchUp(watcher)),
        (error: unknown) => {
          log.warn({ err: error }, 'cannot subscribe to the event channel, trying again');
          redis.disconnect(true);
        },
      );
    });
    redis.on('message', (_from: string, text: string) => {
      const alert = JSON.parse(text) as Alert;
      for (const watcher of this.#watchers.values()) pass(watcher, alert);
    });
    return redis;
  }

  #dropDead(): void {
    for (const watcher of this.#watchers.values()) {
      if (!watcher.alive) watcher.socket.terminate();
      watcher.alive = false;
      watcher.socket.ping();
    }
  }
}

/** Sends an alert that has just come. */
function pass(watcher: Watcher, alert: Alert): void {
  const { socket, held, recent } = watcher;
  if (socket.readyState !== socket.OPEN || recent.has(alert.id)) return;
  if (held !== undefined) {
    held.push(alert);
    if (held.length > MAX_HELD) socket.terminate();
    return;
  }
  watcher.lastId = Math.max(watcher.lastId ?? 0, alert.id);
  remember(watcher, alert.id);
  if (socket.bufferedAmount > MAX_BUFFERED_BYTES) socket.terminate();
  else socket.send(JSON.stringify(alert));
}

function remember({ recent }: Watcher, id: number): void {
  recent.add(id);
  // A set gives what it holds in the order of adding.
  if (recent.size > MAX_RECENT) for (const oldest of recent.values()) return void recent.delete(oldest);
}

/** Resolves when the kernel has it, or nobody will. */
function written(socket: WebSocket, text: string): Promise<void> {
  return new Promise((resolve) => socket.send(text, () => resolve()));
}
