import { type RunningHub, startHub } from '../../../src/bin/hub.ts';
import { createLogger } from '../../../src/platform/logger.ts';
import { type Harness, TEST_SECRETS } from '../../support/harness.ts';

/** Settings under which only the limit that a test is about can be met. */
const ROOMY = {
  MINER_ENROLLMENT: 'open',
  RATE_LIMIT_REGISTER_PER_SEC: '10000',
  RATE_LIMIT_DEFAULT_PER_SEC: '10000',
  RATE_LIMIT_HEARTBEAT_PER_SEC: '1000',
  SHUTDOWN_DRAIN_MS: '0',
};

const LOG_LEVEL = 'fatal';

/** A whole hub in this process, on a port of its own. Several on one Redis are the replicas of one pool. */
export async function startReplica(h: Harness, settings: Record<string, string> = {}): Promise<RunningHub> {
  const config = await h.config({ ...ROOMY, ...settings });
  const hub = await startHub(config, createLogger(LOG_LEVEL, 'hub'));
  h.cleanup(() => hub.stop());
  return hub;
}

export const PROFILE = {
  api_key: 'key-of-the-miner',
  addr: '10.0.0.1:9000',
  proto: 'grpc',
  gpu_name: 'RTX 4090',
  gpu_vram: 24,
  cpu_cores: 16,
  ram_gb: 64,
  price_token_per_ksec: '0.5',
  max_parallel: 4,
  tags: ['spot'],
  capabilities: ['llama'],
};

/** @returns the session token */
export async function register(hub: RunningHub, minerId: string): Promise<string> {
  const answer = await call(hub, 'POST', '/v1/miners/register', { ...PROFILE, miner_id: minerId });
  if (answer.status !== 200) throw new Error(`register: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body.session_token;
}

/** One call as an administrator. */
export async function call(
  hub: RunningHub,
  method: string,
  path: string,
  body?: unknown,
  // biome-ignore lint/suspicious/noExplicitAny: the bodies of all calls
): Promise<{ status: number; body: any }> {
  const response = await fetch(hub.url + path, {
    method,
    headers: { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
}
