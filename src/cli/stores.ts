import { type HubDeps, openDeps } from '../hub/deps.ts';
import { loadConfig } from '../platform/config.ts';
import { createLogger } from '../platform/logger.ts';
import { whenReady } from '../platform/redis.ts';
import type { Terminal } from './command.ts';
import { CommandError } from './errors.ts';

const REDIS_BUDGET_MS = 5_000;

/**
 * Runs an operator's command on the stores themselves, with the settings of the hub in the environment.
 * @throws ConfigError for bad settings, CommandError when Redis does not answer
 */
export async function withStores<T>(terminal: Terminal, work: (deps: HubDeps) => Promise<T>): Promise<T> {
  const config = loadConfig(terminal.env);
  // What goes wrong is said once, by the command; standard output is for data.
  const deps = openDeps(config, createLogger('silent', 'poolhub'), { processMetrics: false });
  try {
    await whenReady(deps.redis, REDIS_BUDGET_MS).catch((cause: Error) => {
      throw new CommandError(cause.message, { cause });
    });
    return await work(deps);
  } finally {
    await deps.close();
  }
}
