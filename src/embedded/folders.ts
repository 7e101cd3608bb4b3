import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** Where unpacked programs are kept between runs: $XDG_CACHE_HOME/pool-hub or ~/.cache/pool-hub. */
export function cacheFolder(env: NodeJS.ProcessEnv): string {
  const base = env.XDG_CACHE_HOME;
  // The XDG specification says to ignore a relative path.
  const root = base !== undefined && isAbsolute(base) ? base : join(env.HOME || homedir(), '.cache');
  return join(root, 'pool-hub');
}
