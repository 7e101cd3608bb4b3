import * as v from 'valibot';
import type { Config } from '../../platform/config.ts';
import { controlChannel } from '../../platform/keys.ts';
import type { Logger } from '../../platform/logger.ts';
import { type Subscriber, subscribe } from '../../platform/subscriber.ts';

/** What the scripts publish: something happened to a miner (`command`, `replaced`, `gone`). */
const Notice = v.object({ type: v.string(), miner_id: v.string() });

/**
 * Listens to what happens to miners on any replica. A notice says no more than that there is something to look
 * at: the registry is asked what it is. So a notice that comes late, twice or (while the connection was away) never does no harm; the
 * miner's next heartbeat finds the same.
 */
export function openControlChannel(
  config: Config,
  log: Logger,
  onNotice: (minerId: string) => void,
): Subscriber {
  return subscribe(config, log, {
    name: 'pool-hub-control',
    channel: controlChannel(config.redis_prefix),
    message: Notice,
    onMessage: ({ miner_id }) => onNotice(miner_id),
  });
}
