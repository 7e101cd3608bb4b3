import { createHash, randomBytes } from 'node:crypto';
import { type HubDeps, openDeps } from '../../src/hub/deps.ts';
import { authorizeMiner } from '../../src/hub/miners/enrollment.ts';
import { normaliseProfile } from '../../src/hub/miners/profile.ts';
import type { MinerProfile } from '../../src/hub/miners/types.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { whenReady } from '../../src/platform/redis.ts';
import type { Harness } from '../support/harness.ts';

/** The dependencies of a hub on this file's stores, with open enrollment; closed with the file. */
export async function openHub(h: Harness, overrides: Record<string, string> = {}): Promise<HubDeps> {
  const config = await h.config({ MINER_ENROLLMENT: 'open', ...overrides });
  const deps = openDeps(config, createLogger('silent', 'test'), { processMetrics: false });
  h.cleanup(() => deps.close());
  await whenReady(deps.redis, 5000);
  return deps;
}

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

let counter = 0;

/** An id that no other test of this run uses. */
export function uniqueId(kind: string): string {
  counter += 1;
  return `${kind}-${randomBytes(4).toString('hex')}-${counter}`;
}

export function profileOf(overrides: Partial<Parameters<typeof normaliseProfile>[0]> = {}): MinerProfile {
  return normaliseProfile(
    {
      addr: '10.0.0.1:9000',
      proto: 'grpc',
      gpu_name: 'NVIDIA RTX 4090',
      gpu_vram_gb: 24,
      ram_gb: 64,
      cpu_cores: 16,
      max_parallel: 4,
      base_price: '0.5',
      tags: ['fast'],
      capabilities: ['embed'],
      ...overrides,
    },
    'eu-west',
  );
}

/** Registers a miner as the hub does: Postgres vouches for the key, then Redis takes the profile. */
export async function registerMiner(
  deps: HubDeps,
  minerId = uniqueId('miner'),
  profile: MinerProfile = profileOf(),
): Promise<string> {
  const keyDigest = sha256(`key of ${minerId}`);
  const authorization = await authorizeMiner(deps, minerId, keyDigest);
  if (authorization.status === 'refused') throw new Error(`${minerId} is refused`);
  const result = await deps.miners.register({
    minerId,
    keyDigest,
    sessionDigest: sha256(`session of ${minerId}`),
    profile,
    durable: authorization.durable,
  });
  if (result.status !== 'ok') throw new Error(`${minerId}: ${result.status}`);
  return minerId;
}

/** A heartbeat with the session of `registerMiner`. */
export async function beat(deps: HubDeps, minerId: string, readings = {}): Promise<void> {
  const credential = { kind: 'session', digest: sha256(`session of ${minerId}`) } as const;
  const { status } = await deps.miners.heartbeat(minerId, credential, readings);
  if (status !== 'ok') throw new Error(`${minerId}: ${status}`);
}
