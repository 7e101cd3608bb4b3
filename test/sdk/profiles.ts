import { fleetKey, makeFleet } from '../../src/cli/fleet.ts';
import type { RegisterRequest } from '../../src/sdk/types.ts';

/** A registration like those of a real miner, under an id of one's own. */
export function profileOf(miner_id: string, changes: Partial<RegisterRequest> = {}): RegisterRequest {
  const [miner] = makeFleet(1, { seed: 1, kind: 'equal' });
  if (miner === undefined) throw new Error('an empty fleet');
  return { ...miner.profile, miner_id, api_key: fleetKey(1, miner_id), ...changes };
}
