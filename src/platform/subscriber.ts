import * as v from 'valibot';
import type { Config } from './config.ts';
import type { Logger } from './logger.ts';
import { connectRedis } from './redis.ts';

/** A subscriber sends nothing, so only TCP can tell it that the server is gone without a word. */
const KEEP_ALIVE_MS = 5_000;

interface Subscription<Message> {
  /** Of the connection. */
  readonly name: string;
  readonly channel: string;
  /** The JSON of a message. What it refuses is dropped: it may come from another version, or from anybody who has this Redis. */
  readonly message: v.GenericSchema<unknown, Message>;
  onMessage(message: Message): void;
  /** Called each time that messages begin to come: what was published before did not. */
  onSubscribed?(): void;
}

export interface Subscriber {
  close(): void;
}

/** Listens to a channel of Redis, on a connection of its own, through every outage until `close`. */
export function subscribe<Message>(
  config: Pick<Config, 'redis_url' | 'redis_cluster_nodes' | 'redis_command_timeout_ms'>,
  log: Logger,
  { name, channel, message, onMessage, onSubscribed }: Subscription<Message>,
): Subscriber {
  const redis = connectRedis(
    {
      url: config.redis_url ?? '',
      clusterNodes: config.redis_cluster_nodes,
      commandTimeoutMs: config.redis_command_timeout_ms,
    },
    name,
    { enableAutoPipelining: false, autoResubscribe: false, keepAlive: KEEP_ALIVE_MS },
  );
  // The connection that does the work tells the log about a Redis that is away.
  redis.on('error', (error: Error) => log.debug({ err: error, channel }, 'channel is away'));
  redis.on('ready', () => {
    redis.subscribe(channel).then(
      () => onSubscribed?.(),
      (error: unknown) => {
        log.warn({ err: error, channel }, 'cannot subscribe, trying again');
        redis.disconnect(true);
      },
    );
  });
  const Text = v.pipe(v.string(), v.parseJson(), message);
  redis.on('message', (_channel: string, text: string) => {
    const read = v.safeParse(Text, text);
    if (read.success) onMessage(read.output);
    else log.warn({ channel }, 'unreadable message');
  });
  return { close: () => redis.disconnect() };
}
