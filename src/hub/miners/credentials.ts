import type { Context } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { bearerToken } from '../../platform/auth.ts';
import { networkOf } from '../../platform/client-address.ts';
import { AppError, invalidAt } from '../../platform/errors.ts';
import type { HubDeps } from '../deps.ts';
import { digestKey } from './enrollment.ts';
import { readSession } from './session.ts';
import type { Credential } from './types.ts';

/** Which miner a call claims to come from, and what proves it to the registry. */
export interface MinerClaim {
  readonly minerId: string;
  readonly credential: Credential;
}

const MINER_ID = /^[A-Za-z0-9._:-]{1,64}$/;
const MAX_KEY_CHARS = 256;

/**
 * Reads the session token of a miner's call, from the body (or query) or as Bearer.
 * @throws AppError `unauthenticated` when there is none, `session_unknown` when it is none of ours
 */
export function sessionClaim(c: Context<AppEnv>, given: string | undefined): MinerClaim {
  const token = given ?? bearerToken(c.req.header('Authorization'));
  if (token === undefined) {
    throw new AppError('unauthenticated', 'a session_token is needed, in the body or as Bearer');
  }
  const session = readSession(token);
  if (session === undefined) throw sessionUnknown();
  return { minerId: session.minerId, credential: { kind: 'session', digest: session.digest } };
}

/**
 * As `sessionClaim`, but a Bearer that is no session token is read as the miner's api_key; the miner is named in the body or in X-Miner-ID.
 * @throws AppError `unauthenticated` when neither is there, `invalid` when the body names another miner than the session
 */
export function sessionOrKeyClaim(
  c: Context<AppEnv>,
  config: Pick<HubDeps['config'], 'api_key_pepper'>,
  given: { session_token?: string | undefined; miner_id?: string | undefined },
): MinerClaim {
  const bearer = bearerToken(c.req.header('Authorization'));
  if (given.session_token !== undefined || bearer === undefined || readSession(bearer) !== undefined) {
    const claim = sessionClaim(c, given.session_token);
    if (given.miner_id !== undefined && given.miner_id !== claim.minerId) {
      throw invalidAt('miner_id', 'is not the miner of the session');
    }
    return claim;
  }
  const minerId = given.miner_id ?? c.req.header('X-Miner-ID');
  if (minerId === undefined || !MINER_ID.test(minerId) || bearer.length > MAX_KEY_CHARS) {
    throw new AppError('unauthenticated', 'with an api_key, name the miner in miner_id or X-Miner-ID');
  }
  return {
    minerId,
    credential: { kind: 'key', digest: digestKey(config.api_key_pepper, bearer) },
  };
}

/**
 * Whose calls count together in the limit of miner calls: those of a session; of a key, those to one miner from one network, so that
 * guesses count together and do not use up what the miner itself may send.
 */
export function limitKeyOf(c: Context<AppEnv>, { minerId, credential }: MinerClaim): string {
  return credential.kind === 'session' ? credential.digest : `${minerId}@${networkOf(c.get('address'))}`;
}

/** The registry does not know the session: register again. */
export function sessionUnknown(): AppError {
  return new AppError('session_unknown', 'the session is not known or has ended: register again');
}
