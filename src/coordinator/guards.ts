import type { Context, MiddlewareHandler } from 'hono';
import type { AppEnv } from '../platform/app-env.ts';
import { createLocalLimit, type LimitMiner } from '../platform/rate-limit.ts';
import { checkSignature, type KeyHolder, KeyRing, type KeyRole } from './auth.ts';
import type { CoordinatorDeps } from './deps.ts';

/** What stands before the handlers of a route. */
export interface Guards {
  /** Lets the holders of keys of these roles pass: key, then rate limit, then signature. */
  readonly permit: (...roles: readonly KeyRole[]) => MiddlewareHandler<AppEnv>;
  /** The same without a signature, for a handshake that has no body. */
  readonly identify: (header: (name: string) => string | undefined, roles: readonly KeyRole[]) => KeyHolder;
}

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

export function createGuards({
  config,
  db,
  metrics,
}: Pick<CoordinatorDeps, 'config' | 'db' | 'metrics'>): Guards {
  const keys = new KeyRing(config);
  const limitOf = (role: KeyRole, perSec: number) =>
    createLocalLimit(role, perSec, () => metrics.rateLimited.inc({ role }));
  const limits: Record<KeyRole, LimitMiner> = {
    client: limitOf('client', config.rate_limit_client_per_sec),
    miner: limitOf('miner', config.rate_limit_miner_per_sec),
    admin: limitOf('admin', config.rate_limit_admin_per_sec),
  };
  return {
    identify: (header, roles) => keys.identify(header, roles, undefined),
    permit: (...roles) =>
      async function permit(c, next) {
        const header = (name: string) => c.req.header(name);
        const holder = keys.identify(header, roles, header('x-miner-id') ?? c.req.query('miner_id'));
        await limits[holder.role](c, holder.id);
        const isSafe = SAFE_METHODS.has(c.req.method);
        const body = isSafe ? '' : await c.req.text();
        await checkSignature({ header, body, isSafe }, holder.key, config, (work) => db.run(work));
        c.set('caller', { role: holder.role, id: holder.id });
        await next();
      },
  };
}

/** Id of the client, miner or administrator that `permit` let pass. */
export function callerId(c: Context<AppEnv>): string {
  const caller = c.get('caller');
  if (caller === undefined) throw new TypeError('the route has no permit');
  return caller.id;
}
