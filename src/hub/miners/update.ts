import { AppError } from '../../platform/errors.ts';
import type { HubDeps } from '../deps.ts';
import type { MinerClaim } from './credentials.ts';
import { deriveFields } from './profile.ts';
import { journalFull, tooManyTerms } from './registration.ts';
import type { Beat, BeatResult, MinerHash, ProfileChange } from './types.ts';

type UpdateDeps = Pick<HubDeps, 'config' | 'miners'>;

/** Updates and registrations of one miner at once that one of them may lose to. */
const MAX_ROUNDS = 5;

/**
 * A heartbeat that also changes the profile; nothing changes unless all of it can. Accel and region that the miner never named
 * follow its tags and capabilities, as they do when it registers.
 * @throws AppError `conflict` when the index has no room for its terms, `unavailable` when the journal is full
 */
export async function updateMiner(
  { config, miners }: UpdateDeps,
  { minerId, credential }: MinerClaim,
  beat: Beat,
  change: ProfileChange,
): Promise<BeatResult> {
  const isTraitChanged = change.tags !== undefined || change.capabilities !== undefined;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const seen = isTraitChanged ? await miners.get(minerId) : undefined;
    const following = seen === undefined ? {} : fieldsThatFollow(seen, change, config.default_region);
    const changes = { ...change, ...following };
    const result = await miners.update(minerId, credential, beat, changes, seen?.profile_version);
    switch (result.status) {
      case 'overtaken':
        continue;
      case 'too_many_terms':
        throw tooManyTerms(result.term);
      case 'journal_full':
        throw journalFull();
      default:
        return result;
    }
  }
  throw new AppError('unavailable', 'the profile changes all the time; ask again', { retry_after_sec: 1 });
}

function fieldsThatFollow(seen: MinerHash, change: ProfileChange, defaultRegion: string) {
  const listOf = (field: string) => JSON.parse(seen[field] ?? '[]') as string[];
  const traits = {
    gpu_name: seen.gpu_name ?? '',
    tags: change.tags ?? listOf('tags'),
    capabilities: change.capabilities ?? listOf('capabilities'),
  };
  return deriveFields(listOf('derived'), traits, defaultRegion);
}
