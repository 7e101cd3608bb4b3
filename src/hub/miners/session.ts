import { createHash, randomBytes } from 'node:crypto';

const TOKEN = /^phs_([A-Za-z0-9_-]{2,86})\.([A-Za-z0-9_-]{43})$/;

/** A session token as read from a request: whose it claims to be, and the digest that proves it. */
export interface SessionToken {
  minerId: string;
  /** SHA-256 of the whole token, hex. */
  digest: string;
}

function digestOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

/**
 * Makes a session token. It carries the miner's id, so that any replica finds the shard, and 256 random bits;
 * only its digest is ever stored.
 */
export function newSession(minerId: string): { token: string; digest: string } {
  const token = `phs_${Buffer.from(minerId, 'utf8').toString('base64url')}.${randomBytes(32).toString('base64url')}`;
  return { token, digest: digestOf(token) };
}

/** Reads a token; undefined when it has not the form of one. */
export function readSession(token: string): SessionToken | undefined {
  const found = TOKEN.exec(token);
  if (found === null) return undefined;
  const minerId = Buffer.from(found[1] as string, 'base64url').toString('utf8');
  return /^[A-Za-z0-9._:-]{1,64}$/.test(minerId) ? { minerId, digest: digestOf(token) } : undefined;
}
