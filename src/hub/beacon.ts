import { isConnectionError } from '../platform/errors.ts';
import type { HubDeps } from './deps.ts';

const LONGEST_MS = 5000;

/**
 * Tells the registry every few seconds (a third of a lease at most) that a hub is there. After a silence of all hubs it grants
 * the miners, who had nobody to beat to, a fresh grace period.
 * @returns what ends it
 */
export function startBeacon(deps: Pick<HubDeps, 'miners' | 'config' | 'log'>): () => void {
  const everyMs = Math.min(LONGEST_MS, (deps.config.session_ttl_sec * 1000) / 3);
  let telling = false;
  const tell = async () => {
    if (telling) return;
    telling = true;
    try {
      const silenceMs = await deps.miners.alive();
      if (silenceMs !== undefined)
        deps.log.warn({ silence_ms: silenceMs }, 'no hub was there: leases get a grace period');
    } catch (error) {
      // Redis is away: its own log line says so, and the next turn tries again.
      if (!isConnectionError(error)) deps.log.error({ err: error }, 'beacon failed');
    } finally {
      telling = false;
    }
  };
  const timer = setInterval(tell, everyMs);
  void tell();
  return () => clearInterval(timer);
}
