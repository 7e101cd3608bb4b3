import type * as v from 'valibot';
import { AppError } from '../../platform/errors.ts';
import type { HubDeps } from '../deps.ts';
import { authorizeMiner, digestKey } from './enrollment.ts';
import { normaliseProfile } from './profile.ts';
import type { RegisterRequest } from './schema.ts';
import { newSession } from './session.ts';
import type { Lease, RegisterInput } from './types.ts';

type RegistrationDeps = Pick<HubDeps, 'config' | 'miners' | 'db'>;

export interface Registration extends Lease {
  readonly created: boolean;
  /** Handed out here and nowhere else. */
  readonly sessionToken: string;
}

/**
 * Registers a miner, or registers it again: profile, lease and session in one script. Postgres is asked only when Redis does not know the
 * key for this miner.
 * @throws AppError `unauthenticated` for a key that is not the miner's, `conflict` when the index has no room for its terms,
 *   `unavailable` when the journal is full
 */
export async function registerMiner(
  deps: RegistrationDeps,
  request: v.InferOutput<typeof RegisterRequest>,
): Promise<Registration> {
  const { miner_id: minerId, api_key, gpu_vram, price_token_per_ksec, tags, capabilities, ...rest } = request;
  const session = newSession(minerId);
  const input: RegisterInput = {
    minerId,
    keyDigest: digestKey(deps.config.api_key_pepper, api_key),
    sessionDigest: session.digest,
    profile: normaliseProfile(
      {
        ...rest,
        gpu_vram_gb: gpu_vram,
        base_price: price_token_per_ksec,
        tags: tags ?? [],
        capabilities: capabilities ?? [],
      },
      deps.config.default_region,
    ),
  };
  let result = await deps.miners.register(input);
  if (result.status === 'unknown_key') {
    const authorization = await authorizeMiner(deps, minerId, input.keyDigest);
    if (authorization.status === 'refused') throw wrongKey();
    result = await deps.miners.register({ ...input, durable: authorization.durable });
  }
  switch (result.status) {
    case 'ok':
      return { ...result, sessionToken: session.token };
    case 'unknown_key':
      throw wrongKey();
    case 'too_many_terms':
      throw tooManyTerms(result.term);
    case 'journal_full':
      throw journalFull();
  }
}

/** Which field of a profile a term of the index comes from, by what the term begins with. */
const FIELD_OF_TERM: Readonly<Record<string, string>> = {
  accel: 'accel',
  cap: 'capabilities',
  gpu: 'gpu_name',
  region: 'region',
  tag: 'tags',
  task: 'tags',
};

/** The index of a shard is full of distinct terms (MAX_TERMS_PER_SHARD); `term` is the first without room. */
export function tooManyTerms(term: string): AppError {
  const path = FIELD_OF_TERM[term.split(':', 1)[0] as string];
  return new AppError(
    'conflict',
    'the registry has no room for more distinct tags, capabilities, regions and GPU names',
    path === undefined ? {} : { details: [{ path, message: 'has a value that no miner has yet' }] },
  );
}

/** Durable effects pile up because Postgres is away: JOURNAL_MAX_ENTRIES. */
export function journalFull(): AppError {
  return new AppError('unavailable', 'the journal is full', { retry_after_sec: 5 });
}

function wrongKey(): AppError {
  return new AppError('unauthenticated', 'this miner_id is not enrolled with this api_key');
}
