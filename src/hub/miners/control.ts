import * as v from 'valibot';
import type { Config } from '../../platform/config.ts';
import { controlChannel } from '../../platform/keys.ts';
import type { Logger } from '../../platform/logger.ts';
import { connectRedis } from '../../platform/redis.ts';

/** What the scripts publish: something happened to a miner (`command`, `replaced`, `gone`). */
const Notice = v.object({ type: v.string(), miner_id: v.string() });

/** A subscriber sends nothing, so only TCP can tell it that the server is gone without a word. */
const KEEP_ALIVE_MS = 5_000;

export interface ControlChannel {
  close(): void;
}

/**
 * Listens, on a connection of its own, to what happens to miners on any replica. A notice says no more than that there is something to look
 * at: the registry is asked what it is. So a notice that comes late, twice or (while the connection was away) never does no harm; the
 * miner's next heartbeat finds the same.
 */
export function openControlChannel(
  config: Config,
  log: Logger,
  onNotice: (minerId: string) => void,
): ControlChannel {
  const channel = controlChannel(config.redis_prefix);
  const redis = connectRedis(
    {
      url: config.redis_url ?? '',
      clusterNodes: config.redis_cluster_nodes,
      commandTimeoutMs: config.redis_command_timeout_ms,
    },
    'pool-hub-control',
    { enableAutoPipelining: false, autoResubscribe: false, keepAlive: KEEP_ALIVE_MS },
  );
  // The connection that does the work tells the log about a Redis that is away.
  redis.on('error', (error: Error) => log.debug({ err: error }, 'control channel is away'));
  redis.on('ready', () => {
    redis.subscribe(channel).catch((error: unknown) => {
      log.warn({ err: error }, 'cannot subscribe to the control channel, trying again');
      redis.disconnect(true);
    });
  });
  redis.on('message', (from: string, text: string) => {
    if (from !== channel) return;
    const notice = readNotice(text);
    if (notice === undefined) log.warn('unreadable notice on the control channel');
    else onNotice(notice.miner_id);
  });
  return { close: () => redis.disconnect() };
}

function readNotice(text: string): v.InferOutput<typeof Notice> | undefined {
  try {
    return v.parse(Notice, JSON.parse(text));
  } catch {
    return undefined;
  }
}
