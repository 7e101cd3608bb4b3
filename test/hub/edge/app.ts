import { createHubApp } from '../../../src/hub/app.ts';
import { type HubDeps, type HubState, openDeps } from '../../../src/hub/deps.ts';
import { createLogger } from '../../../src/platform/logger.ts';
import { whenReady } from '../../../src/platform/redis.ts';
import { type Harness, TEST_SECRETS } from '../../support/harness.ts';
import { conformance, type OpenApiDocument } from '../../support/openapi.ts';

export const COORDINATOR = { 'X-Coordinator-Secret': TEST_SECRETS.COORDINATOR_SHARED_SECRET };
export const ADMIN = { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY };

/** High enough never to be met by a test of something else. */
const NO_LIMITS = {
  RATE_LIMIT_REGISTER_PER_SEC: '100000',
  RATE_LIMIT_MATCH_PER_SEC: '100000',
  RATE_LIMIT_DEFAULT_PER_SEC: '100000',
  RATE_LIMIT_HEARTBEAT_PER_SEC: '100000',
};

export interface CallOptions {
  /** Sent as it is when it is text or bytes, else as JSON. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  /** Address of the socket that the request seems to come over. */
  readonly from?: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers freely; assertions say what they expect.
  readonly json: any;
}

export interface TestApp {
  readonly deps: HubDeps;
  readonly state: HubState;
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** Registers a miner and gives its session token. */
  register(minerId: string, more?: Record<string, unknown>): Promise<string>;
}

/**
 * One replica in this process, on the stores of the test file. Several may be opened: they share what replicas share. Every call is held
 * against the OpenAPI document.
 */
export async function openApp(h: Harness, settings: Record<string, string> = {}): Promise<TestApp> {
  const config = await h.config({ MINER_ENROLLMENT: 'open', LOG_LEVEL: 'silent', ...NO_LIMITS, ...settings });
  const deps = openDeps(config, createLogger(config.log_level, 'test'), { processMetrics: false });
  h.cleanup(() => deps.close());
  await whenReady(deps.redis, 5000);
  const state = { draining: false };
  const app = createHubApp(deps, state);

  const documented = (await (await app.request('/openapi.json')).json()) as OpenApiDocument;
  const checkConformance = conformance(documented);

  const call: TestApp['call'] = async (method, path, { body, headers = {}, from = '192.0.2.1' } = {}) => {
    const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const init = { method, headers, ...(text === undefined ? {} : { body: text }) };
    const response = await app.request(path, init, { incoming: { socket: { remoteAddress: from } } });
    const answer = await response.text();
    const { status, headers: sent } = response;
    checkConformance({ method, path, body: text?.toString(), status, headers: sent, text: answer });
    const isJson = response.headers.get('Content-Type')?.includes('application/json') === true;
    return {
      status: response.status,
      headers: response.headers,
      text: answer,
      json: isJson ? JSON.parse(answer) : undefined,
    };
  };
  return {
    deps,
    state,
    call,
    async register(minerId, more = {}) {
      const answer = await call('POST', '/v1/miners/register', {
        body: { ...PROFILE, miner_id: minerId, ...more },
      });
      if (answer.status !== 200) throw new Error(`register answered ${answer.status}: ${answer.text}`);
      return answer.json.session_token;
    },
  };
}

/** A registration without its miner_id. */
export const PROFILE = {
  api_key: 'key-of-a-test-miner',
  addr: '192.0.2.10:9000',
  proto: 'grpc',
  gpu_vram: 24,
  gpu_name: 'NVIDIA GeForce RTX 4090',
  cpu_cores: 16,
  ram_gb: 64,
  price_token_per_ksec: 0.5,
  max_parallel: 2,
  tags: ['eu-west'],
  capabilities: ['stable-diffusion'],
  region: 'eu-west-1',
};
