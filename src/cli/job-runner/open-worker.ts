import { deriveAccel } from '../../hub/miners/profile.ts';
import { CoordinatorClient } from '../../sdk/coordinator-client.ts';
import type { MinerRegistration } from '../../sdk/coordinator-types.ts';
import type { RegisterRequest } from '../../sdk/types.ts';
import type { Terminal } from '../command.ts';
import { coordinatorUrls } from '../coordinator-access.ts';
import type { ReferenceMiner } from '../reference-miner.ts';
import { JobWorker, type JobWorkerOptions } from './job-worker.ts';

const MB_PER_GB = 1024;

/** The coordinator's side of a reference miner. @throws UsageError for something that is no URL */
export function openWorker(
  reference: ReferenceMiner,
  profile: RegisterRequest,
  givenUrls: readonly string[],
  terminal: Terminal,
  say: JobWorkerOptions['say'],
): JobWorker {
  const urls = coordinatorUrls(givenUrls, terminal);
  const apiKey = terminal.env.COORDINATOR_MINER_KEY || profile.api_key;
  return new JobWorker({
    client: new CoordinatorClient({ urls, apiKey, minerId: profile.miner_id }),
    registration: registrationOf(profile),
    isDraining: () => reference.draining,
    onStart: () => reference.startJob(),
    onEnd: () => reference.endJob(),
    say,
  });
}

/** What the hub is told of a miner, in the words of the coordinator. It has CUDA when the hub would think so. */
function registrationOf(profile: RegisterRequest): MinerRegistration {
  const { gpu_name, gpu_vram, price_token_per_ksec, max_parallel, region } = profile;
  const tags = profile.tags as string[];
  const models = profile.capabilities as string[];
  const gpu = {
    ...(gpu_name ? { name: gpu_name } : {}),
    ...(gpu_vram == null ? {} : { memory_mb: Number(gpu_vram) * MB_PER_GB }),
  };
  return {
    capabilities: {
      ...(Object.keys(gpu).length === 0 ? {} : { gpus: [gpu] }),
      ...(deriveAccel(gpu_name ?? '', tags, models).includes('cuda') ? { cuda: true } : {}),
      models,
      ...(price_token_per_ksec == null ? {} : { price: price_token_per_ksec }),
    },
    concurrency: Number(max_parallel),
    ...(region == null ? {} : { region }),
  };
}
