import { HubError } from '../sdk/errors.ts';
import type { HubClient } from '../sdk/hub-client.ts';
import { CommandError, UsageError } from './errors.ts';
import { type FleetKind, type FleetMiner, fleetKey, makeFleet } from './fleet.ts';
import { wholeOption } from './numbers.ts';

/** Options of every command that makes up a fleet. */
export const FLEET_OPTIONS = {
  miners: { type: 'string', value: 'n', default: '100', help: 'how many miners' },
  seed: { type: 'string', value: 'n', default: '1', help: 'the same seed makes the same fleet' },
  fleet: { type: 'string', value: 'kind', default: 'mixed', help: 'mixed, or equal: all the same' },
  prefix: { type: 'string', value: 'text', default: 'sim', help: 'starts every miner id' },
  enroll: {
    type: 'boolean',
    help: 'give each miner a key first, with ADMIN_API_KEY: for MINER_ENROLLMENT=closed',
  },
} as const;

export const FLEET_NOTES = `Without --enroll the keys follow from the seed, so that whoever knows it knows them: for pools without real miners.
The hub lets few registrations a second through (RATE_LIMIT_REGISTER_PER_SEC): a large fleet takes its time to come.`;

/** More would need more local ports than a machine has. */
const MAX_MINERS = 20_000;
const MAX_SEED = 2 ** 31 - 1;

export interface Fleet {
  readonly miners: readonly FleetMiner[];
  readonly seed: number;
  readonly keyOf: (minerId: string) => string | Promise<string>;
}

/** @throws UsageError */
export function fleetFrom(
  values: { miners: string; seed: string; fleet: string; prefix: string; enroll: boolean },
  client: HubClient,
): Fleet {
  const seed = wholeOption('seed', values.seed, { min: 0, max: MAX_SEED });
  const count = wholeOption('miners', values.miners, { min: 1, max: MAX_MINERS });
  if (!isKind(values.fleet)) throw new UsageError('--fleet must be mixed or equal');
  if (!/^[A-Za-z0-9._:-]{1,50}$/.test(values.prefix))
    throw new UsageError('--prefix must be 1-50 of A-Z a-z 0-9 . _ : -');
  return {
    miners: makeFleet(count, { seed, kind: values.fleet, idPrefix: values.prefix }),
    seed,
    keyOf: values.enroll
      ? async (minerId) => (await client.createKey(minerId)).api_key
      : (minerId) => fleetKey(seed, minerId),
  };
}

/** Says what to do when the hub refused the key of a made-up miner; any other error stays what it is. */
export function explainRefusal(error: unknown, enrolled: boolean): unknown {
  if (!(error instanceof HubError) || error.code !== 'unauthenticated') return error;
  const why = enrolled
    ? 'the hub refused a key or ADMIN_API_KEY'
    : 'the hub refused a key: enrollment is closed (then use --enroll), or the miner was enrolled with another key';
  return new CommandError(why, { cause: error });
}

function isKind(text: string): text is FleetKind {
  return text === 'mixed' || text === 'equal';
}
