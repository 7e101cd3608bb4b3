import type { IncomingMessage } from 'node:http';
import type { Context, MiddlewareHandler } from 'hono';
import type { AppEnv } from '../platform/app-env.ts';
import { createGuessLimit, createLocalLimit, type LimitMiner, NO_HEADERS } from '../platform/rate-limit.ts';
import { addressSet } from '../platform/settings.ts';
import { addressOf } from '../platform/upgrade.ts';
import { checkSignature, type HeaderOf, type KeyHolder, KeyRing, type KeyRole } from './auth.ts';
import type { CoordinatorDeps } from './deps.ts';

/** What stands before the handlers of a route. */
export interface Guards {
  /** Lets the holders of keys of these roles pass: limit of guesses, key, rate limit, signature. */
  readonly permit: (...roles: readonly KeyRole[]) => MiddlewareHandler<AppEnv>;
  /** The same for a handshake, which has no body and no handler. @returns who asks @throws AppError */
  readonly admit: (
    request: IncomingMessage,
    header: HeaderOf,
    ...roles: readonly KeyRole[]
  ) => Promise<KeyHolder>;
}

const NO_BODY = new Uint8Array();

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
  const limitGuesses = createGuessLimit(config.rate_limit_client_per_sec, () =>
    metrics.rateLimited.inc({ role: 'guesses' }),
  );
  const trusted = addressSet(config.trusted_proxies);
  type Request = Parameters<typeof checkSignature>[0];
  const check = async (c: Parameters<LimitMiner>[0], holder: KeyHolder, request: () => Promise<Request>) => {
    await limits[holder.role](c, holder.id);
    await checkSignature(await request(), holder.key, config, (work) => db.run(work));
  };
  return {
    admit: (request, header, ...roles) =>
      limitGuesses(addressOf(request, trusted), async () => {
        const holder = keys.identify(header, roles, undefined);
        await check(NO_HEADERS, holder, async () => ({ header, body: NO_BODY, isSafe: true }));
        return holder;
      }),
    permit: (...roles) =>
      async function permit(c, next) {
        const header = (name: string) => c.req.header(name);
        const { role, id } = await limitGuesses(c.get('address'), async () => {
          const holder = keys.identify(header, roles, header('x-miner-id') ?? c.req.query('miner_id'));
          const isSafe = SAFE_METHODS.has(c.req.method);
          // As bytes: a body that is read as text first is never seen not to be UTF-8.
          const body = async () => (isSafe ? NO_BODY : new Uint8Array(await c.req.arrayBuffer()));
          await check(c, holder, async () => ({ header, body: await body(), isSafe }));
          return holder;
        });
        c.set('caller', { role, id });
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
