import { HubClient } from '../../src/sdk/hub-client.ts';
import type { RegisterRequest } from '../../src/sdk/types.ts';
import { uniqueId } from '../durable/fleet.ts';
import { TestMiner } from '../hub/socket/test-miner.ts';
import { type HubProcess, startHubProcess } from '../sdk/hub-process.ts';
import { type Harness, TEST_SECRETS } from '../support/harness.ts';

const BEAT_EVERY_MS = 400;

/** Short, so that a miner that falls silent is gone in seconds, and long enough for a machine with much to do. */
const LIFE = { SESSION_TTL_SEC: '3', HEARTBEAT_GRACE_SEC: '2' };

/** A hub process, and a client of it. */
export interface PoolHub extends HubProcess {
  readonly client: HubClient;
}

/** Two replicas and a worker, as processes, on the same stores. */
export interface TestPool {
  readonly hubs: readonly [PoolHub, PoolHub];
}

/** Starts the processes of a pool. `settings` say where its stores are, and what differs from the defaults. */
export async function startPool(h: Harness, settings: Record<string, string> = {}): Promise<TestPool> {
  const all = { ...LIFE, ...settings };
  const env = await h.env(all);
  const worker = h.startProcess('src/bin/worker.ts', { env, ready: /worker is running/ });
  const hubs = await Promise.all([startHubProcess(h, all), startHubProcess(h, all)]);
  await worker;
  const [a, b] = hubs.map((hub) => ({ ...hub, client: clientOf(hub.url) })) as [PoolHub, PoolHub];
  return { hubs: [a, b] };
}

/** A client with all rights that sends everything once. */
export function clientOf(url: string): HubClient {
  return new HubClient({
    urls: [url],
    maxAttempts: 1,
    timeoutMs: 30_000,
    coordinatorSecret: TEST_SECRETS.COORDINATOR_SHARED_SECRET,
    adminKey: TEST_SECRETS.ADMIN_API_KEY,
  });
}

/** Three miners that differ in everything, in a region of their own; the first is the best of them for most jobs. */
export function mixedMiners(): [RegisterRequest, RegisterRequest, RegisterRequest] {
  const name = uniqueId('e2e');
  const common = {
    api_key: `key of ${name}`,
    proto: 'grpc',
    cpu_cores: 16,
    max_parallel: 4,
    tags: ['spot'],
    capabilities: ['llama'],
  };
  const miner = (n: number, more: object) =>
    ({ ...common, miner_id: `${name}-${n}`, addr: `10.0.0.${n}:9000`, ...more }) as RegisterRequest;
  return [
    miner(1, {
      gpu_name: 'NVIDIA H100',
      gpu_vram: 80,
      ram_gb: 256,
      price_token_per_ksec: '0.6',
      region: `${name}-west`,
    }),
    miner(2, {
      gpu_name: 'NVIDIA RTX 4090',
      gpu_vram: 24,
      ram_gb: 64,
      price_token_per_ksec: '0.3',
      region: `${name}-west`,
    }),
    miner(3, {
      gpu_name: 'Radeon RX 7900',
      gpu_vram: 16,
      ram_gb: 32,
      price_token_per_ksec: '0.1',
      region: `${name}-east`,
    }),
  ];
}

/** A miner that beats over a socket until it is told to be silent. */
export interface BeatingMiner {
  readonly minerId: string;
  readonly socket: TestMiner;
  /** Says nothing any more, as a machine that lost its network: the socket stays open. */
  silence(): void;
}

/** Registers a miner on one replica, and beats on another. */
export async function startMiner(
  h: Harness,
  profile: RegisterRequest,
  registerAt: PoolHub,
  beatAt: PoolHub,
  latencyMs: number,
): Promise<BeatingMiner> {
  const { session_token } = await registerAt.client.register(profile);
  const socket = await TestMiner.connect(h, beatAt, session_token);
  const reading = { queue_len: 0, busy: false, avg_latency_ms: latencyMs };
  await socket.beat(reading);
  const timer = setInterval(() => socket.send({ ts: 'again', ...reading }), BEAT_EVERY_MS);
  const silence = () => clearInterval(timer);
  socket.socket.once('close', silence);
  h.cleanup(silence);
  return { minerId: profile.miner_id, socket, silence };
}
