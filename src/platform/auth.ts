import { createHash, timingSafeEqual } from 'node:crypto';
import type { BlockList } from 'node:net';
import type { MiddlewareHandler } from 'hono';
import type { AppEnv, Caller, Role } from './app-env.ts';
import { isAddressIn } from './client-address.ts';
import type { Config } from './config.ts';
import { AppError } from './errors.ts';
import type { LimitGuesses } from './rate-limit.ts';
import { addressSet } from './settings.ts';

/** Makes the middleware that lets only the given roles pass; it stands beside each handler. */
export type Permit = (...roles: readonly Role[]) => MiddlewareHandler<AppEnv>;

interface Secret {
  readonly caller: Caller<Role>;
  readonly digest: Buffer;
}

const HEADER_OF: Record<Role, string> = { coordinator: 'X-Coordinator-Secret', admin: 'X-Admin-Key' };
const CALLER_ID_CHARS = 12;

type AuthSettings = Pick<Config, 'coordinator_shared_secret' | 'coordinator_allowlist' | 'admin_api_key'>;

/**
 * Authentication of coordinators and administrators by shared secrets, in `X-Coordinator-Secret`, `X-Admin-Key` or as Bearer.
 * Nobody known is 401; known but of another role, or a coordinator from outside COORDINATOR_ALLOWLIST, is 403. From outside
 * the list the coordinator secrets are not even compared, so nobody there learns whether a guess was right.
 */
export function createPermit(settings: AuthSettings, limitGuesses: LimitGuesses): Permit {
  const identify = createIdentify(settings);
  return (...roles) =>
    async function permit(c, next) {
      const header = (name: string) => c.req.header(name);
      const address = c.get('address');
      c.set('caller', await limitGuesses(address, () => identify(address, header, roles)));
      await next();
    };
}

/** Finds out who calls from an address, by its headers. @throws AppError `unauthenticated` or `forbidden` */
export type Identify = (
  address: string,
  header: (name: string) => string | undefined,
  roles: readonly Role[],
) => Caller<Role>;

/** The same for what is no route: WebSocket handshakes. */
export function createIdentify(settings: AuthSettings): Identify {
  const secrets: readonly Secret[] = [
    ...settings.coordinator_shared_secret.map((text) => secretOf('coordinator', text)),
    ...settings.admin_api_key.map((text) => secretOf('admin', text)),
  ];
  const allowlist =
    settings.coordinator_allowlist.length === 0 ? undefined : addressSet(settings.coordinator_allowlist);

  return (address, header, roles) => {
    const allowed = mayCoordinate(allowlist, address);
    const known = secrets.filter(({ caller }) => allowed || caller.role !== 'coordinator');
    const callers = (['coordinator', 'admin'] as const).flatMap((role) =>
      presented(header(HEADER_OF[role]), header('Authorization')).flatMap((text) =>
        matching(known, role, text),
      ),
    );
    const caller = callers.find(({ role }) => roles.includes(role));
    if (caller !== undefined) return caller;
    if (callers.length > 0) throw new AppError('forbidden', `this call is for: ${roles.join(', ')}`);
    if (!allowed && roles.includes('coordinator'))
      throw new AppError('forbidden', 'coordinators may not call from this address');
    throw new AppError(
      'unauthenticated',
      `a valid secret is needed, in ${roles.map((role) => HEADER_OF[role]).join(' or ')} or as Bearer`,
    );
  };
}

/** The Bearer token of an Authorization header, if it is one. */
export function bearerToken(header: string | undefined): string | undefined {
  return /^Bearer +([^\s]+)\s*$/i.exec(header ?? '')?.[1];
}

function secretOf(role: Role, text: string): Secret {
  const digest = sha256(text);
  return { caller: { role, id: digest.toString('hex').slice(0, CALLER_ID_CHARS) }, digest };
}

function mayCoordinate(allowlist: BlockList | undefined, address: string): boolean {
  return allowlist === undefined || isAddressIn(allowlist, address);
}

function presented(own: string | undefined, authorization: string | undefined): string[] {
  return [own, bearerToken(authorization)].filter((text) => text !== undefined);
}

/** Compares digests, each of them, so that neither length nor position of a near miss shows in the time taken. */
function matching(secrets: readonly Secret[], role: Role, text: string): Caller<Role>[] {
  const digest = sha256(text);
  return secrets
    .filter((secret) => secret.caller.role === role)
    .filter((secret) => timingSafeEqual(secret.digest, digest))
    .map((secret) => secret.caller);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
