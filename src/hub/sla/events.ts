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
import { readAlerts } from './publish.ts';

type EventDeps = Pick<HubDeps, 'config' | 'log' | 'db'>;

/** Where coordinators and administrators hear of alerts. */
export const EVENTS_PATH = '/v1/events';

const MAX_WATCHERS = 1_000;
const MAX_REPLAY = 1_000;
const MAX_FRAME_BYTES = 1_024;
/** A watcher that reads no more is dropped, not buffered. */
const MAX_BUFFERED_BYTES = 1_048_576;
const PING_EVERY_MS = 15_000;
const KEEP_ALIVE_MS = 5_000;
const RESTARTING = 1012;
const TOO_SLOW = 1013;

/**
 * The watchers of one replica. Each gets every alert as a text frame of JSON, at least once and by rising id; `?after=<id>`
 * first sends what came after that one, at most 1,000. What a watcher sends is not read.
 */
export class EventSockets {
  readonly #deps: EventDeps;
  readonly #identify: Identify;
  readonly #server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
  });
  readonly #alive = new WeakSet<WebSocket>();
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

  #opened(watcher: WebSocket, after: number): void {
    this.#alive.add(watcher);
    watcher.on('pong', () => this.#alive.add(watcher));
    watcher.on('error', () => watcher.terminate());
    this.#redis ??= this.#subscribe();
    if (Number.isSafeInteger(after) && after >= 0) void this.#replay(watcher, after);
  }

  async #replay(watcher: WebSocket, after: number): Promise<void> {
    try {
      const alerts = await this.#deps.db.run((orm) => readAlerts(orm, after, MAX_REPLAY));
      for (const alert of alerts) send(watcher, JSON.stringify(alert));
    } catch (error) {
      this.#deps.log.warn({ err: error }, 'alerts of the past not sent');
      watcher.close(TOO_SLOW, 'the past is not available, try again later');
    }
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
      redis.subscribe(channel).catch((error: unknown) => {
        log.warn({ err: error }, 'cannot subscribe to the event channel, trying again');
        redis.disconnect(true);
      });
    });
    redis.on('message', (_from: string, text: string) => {
      for (const watcher of this.#server.clients) send(watcher, text);
    });
    return redis;
  }

  #dropDead(): void {
    for (const watcher of this.#server.clients) {
      if (!this.#alive.delete(watcher)) watcher.terminate();
      else watcher.ping();
    }
  }
}

function send(watcher: WebSocket, text: string): void {
  if (watcher.readyState !== watcher.OPEN) return;
  if (watcher.bufferedAmount > MAX_BUFFERED_BYTES) watcher.terminate();
  else watcher.send(text);
}
