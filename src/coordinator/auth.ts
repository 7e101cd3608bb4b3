import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { sql } from 'drizzle-orm';
import { bearerToken } from '../platform/auth.ts';
import type { Orm } from '../platform/db.ts';
import { AppError, invalidAt } from '../platform/errors.ts';
import type { CoordinatorConfig } from './environment.ts';
import { usedSignatures } from './jobs/tables.ts';

export type KeyRole = 'client' | 'miner' | 'admin';

/** A caller whose key is known. */
export interface KeyHolder {
  readonly role: KeyRole;
  readonly id: string;
  /** The key itself, which signatures are made with. */
  readonly key: string;
}

/** Reads a header of a request, whatever its case. */
export type HeaderOf = (name: string) => string | undefined;

/** The keys of the settings, ready to be compared. */
export class KeyRing {
  readonly #entries: readonly Entry[];

  constructor(config: Pick<CoordinatorConfig, 'client_api_keys' | 'miner_api_keys' | 'admin_api_keys'>) {
    const lists = {
      client: config.client_api_keys,
      miner: config.miner_api_keys,
      admin: config.admin_api_keys,
    };
    this.#entries = (['client', 'miner', 'admin'] as const).flatMap((role) =>
      lists[role].map((text) => entryOf(role, text)),
    );
  }

  /**
   * Who holds the key that a request shows in `X-Api-Key` or as Bearer, under those of the roles; the same key may be in several lists.
   * @param minerId what a miner says it is: counts only with a key that names nobody
   * @throws AppError `unauthenticated` for a key nobody has, `forbidden` for one of another role, `invalid` for a bad miner id
   */
  identify(header: HeaderOf, roles: readonly KeyRole[], minerId: string | undefined): KeyHolder {
    const shown = header('x-api-key') ?? bearerToken(header('authorization'));
    if (shown === undefined)
      throw new AppError('unauthenticated', 'a key is needed, in X-Api-Key or as Bearer');
    const digest = sha256(shown);
    // Each entry is compared, so that the time taken tells nothing of the place of a near miss.
    const known = this.#entries.filter((entry) => timingSafeEqual(entry.digest, digest));
    if (known.length === 0) throw new AppError('unauthenticated', 'nobody has this key');
    const entry = known.find(({ role }) => roles.includes(role));
    if (entry === undefined) throw new AppError('forbidden', `this call is for: ${roles.join(', ')}`);
    if (entry.id !== undefined) return { role: entry.role, id: entry.id, key: shown };
    const claimed = entry.role === 'miner' ? minerId : undefined;
    if (claimed !== undefined && !ID.test(claimed)) {
      throw invalidAt('X-Miner-ID', 'must be 1-64 of A-Z a-z 0-9 . _ : -');
    }
    return { role: entry.role, id: claimed ?? digest.toString('hex').slice(0, ID_CHARS), key: shown };
  }
}

interface Entry {
  readonly role: KeyRole;
  /** Undefined for a bare key. */
  readonly id: string | undefined;
  readonly digest: Buffer;
}

const ID = /^[A-Za-z0-9._:-]{1,64}$/;
const ID_CHARS = 16;
const SIGNATURE = /^(?:sha256=)?([0-9a-f]{64})$/i;

/** A key may end in `=` (base64), so only what stands before the first one and is followed by something is an id. */
function entryOf(role: KeyRole, text: string): Entry {
  const [, id, key] = /^([A-Za-z0-9._:-]{1,64})=([^=].*)$/.exec(text) ?? [];
  return { role, id, digest: sha256(key ?? text) };
}

/**
 * Checks `X-Signature`: hexadecimal HMAC-SHA-256, under the key of the caller, of `<timestamp>.<body>`, with `X-Timestamp` in Unix
 * seconds or milliseconds. What changes something is taken once: a client gives every such call a timestamp of its own.
 * @throws AppError `unauthenticated`; `conflict` for a signature that was used
 */
export async function checkSignature(
  request: { readonly header: HeaderOf; readonly body: Uint8Array; readonly isSafe: boolean },
  key: string,
  config: Pick<CoordinatorConfig, 'signatures' | 'signature_window_sec'>,
  run: (work: (orm: Orm) => Promise<boolean>) => Promise<boolean>,
): Promise<void> {
  const signature = request.header('x-signature');
  if (signature === undefined) {
    if (config.signatures === 'required') throw unsigned('X-Signature is needed');
    return;
  }
  const timestamp = request.header('x-timestamp') ?? '';
  const sentMs = unixMs(timestamp);
  const windowMs = config.signature_window_sec * 1000;
  if (sentMs === undefined) throw unsigned('X-Timestamp must be Unix seconds or milliseconds');
  const expected = createHmac('sha256', key).update(`${timestamp}.`).update(request.body).digest();
  const [, digits] = SIGNATURE.exec(signature) ?? [];
  if (digits === undefined || !timingSafeEqual(Buffer.from(digits, 'hex'), expected))
    throw unsigned('X-Signature is wrong');
  if (Math.abs(Date.now() - sentMs) > windowMs) throw unsigned('X-Timestamp is too far from now');
  if (request.isSafe) return;
  const digest = sha256(`${key}\n${expected.toString('hex')}`).toString('hex');
  const fresh = await run((orm) => useOnce(orm, digest, new Date(sentMs + 2 * windowMs)));
  if (!fresh)
    throw new AppError('conflict', 'this signed call was taken already: sign again with another timestamp');
}

async function useOnce(orm: Orm, digest: string, expiresAt: Date): Promise<boolean> {
  const rows = await orm
    .insert(usedSignatures)
    .values({ digest, expiresAt })
    .onConflictDoNothing()
    .returning({ digest: usedSignatures.digest });
  return rows.length === 1;
}

/** Forgets signatures that are too old to be taken anyway. @returns how many */
export async function forgetSignatures(orm: Orm, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    delete from ${usedSignatures} where digest in
      (select digest from ${usedSignatures} where expires_at < now() order by expires_at limit ${limit} for update skip locked)
    returning 1 as one`);
  return rows.length;
}

/** Past this a number of seconds would be in the year 5138: it is milliseconds. */
const MS_FROM = 1e11;

function unixMs(text: string): number | undefined {
  if (!/^\d{9,14}(\.\d{1,6})?$/.test(text)) return undefined;
  const value = Number(text);
  return value >= MS_FROM ? value : value * 1000;
}

function unsigned(message: string): AppError {
  return new AppError('unauthenticated', message);
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
