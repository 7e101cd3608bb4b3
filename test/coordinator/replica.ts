import { startCoordinator } from '../../src/bin/coordinator.ts';
import { loadCoordinatorConfig } from '../../src/coordinator/environment.ts';
import { createLogger } from '../../src/platform/logger.ts';
import type { Harness } from '../support/harness.ts';
import { conformance, type Exchange, type OpenApiDocument } from '../support/openapi.ts';

/** Keys of every replica: two clients, a miner with an id, miners without, an administrator. */
export const KEYS = {
  CLIENT_API_KEYS: 'alice=key-of-alice,bob=key-of-bob',
  MINER_API_KEYS: 'anchor=key-of-anchor,key-of-any-miner',
  ADMIN_API_KEYS: 'root=key-of-root',
} as const;

export const ALICE = { 'X-Api-Key': 'key-of-alice' };
export const BOB = { Authorization: 'Bearer key-of-bob' };
export const ROOT = { 'X-Api-Key': 'key-of-root' };

/** Headers of a miner under the key that names nobody. */
export const asMiner = (minerId: string) => ({ 'X-Api-Key': 'key-of-any-miner', 'X-Miner-ID': minerId });

/** Never met by a test of something else; background work is quick, so that tests need not wait. */
const DEFAULTS = {
  COORDINATOR_PORT: '0',
  LOG_LEVEL: 'error',
  SHUTDOWN_DRAIN_MS: '0',
  SWEEP_INTERVAL_MS: '50',
  RATE_LIMIT_CLIENT_PER_SEC: '100000',
  RATE_LIMIT_MINER_PER_SEC: '100000',
  RATE_LIMIT_ADMIN_PER_SEC: '100000',
};

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers freely; assertions say what they expect.
  readonly json: any;
}

export interface CallOptions {
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

export interface Replica {
  readonly url: string;
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  stop(): Promise<void>;
}

/** The environment of a replica on the database of the test file. */
export async function replicaEnv(
  h: Harness,
  settings: Record<string, string> = {},
): Promise<Record<string, string>> {
  return { DB_DSN: settings.DB_DSN ?? (await h.db()), ...KEYS, ...DEFAULTS, ...settings };
}

/** One replica in this process, with a server of its own. Several share the database of the file. Calls are held against its OpenAPI document. */
export async function openReplica(h: Harness, settings: Record<string, string> = {}): Promise<Replica> {
  const config = loadCoordinatorConfig(await replicaEnv(h, settings));
  const running = await startCoordinator(config, createLogger(config.log_level, 'test'));
  h.cleanup(() => running.stop());
  const document = await fetch(`${running.url}/openapi.json`);
  const check = conformance((await document.json()) as OpenApiDocument);
  return { url: running.url, call: callsTo(running.url, check), stop: () => running.stop() };
}

/** Calls to a coordinator that listens. A body that is text is sent as it is. */
export function callsTo(url: string, check?: (exchange: Exchange) => void): Replica['call'] {
  return async (method, path, { body, headers = {}, signal } = {}) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(url + path, {
      method,
      headers,
      ...(text === undefined ? {} : { body: text }),
      ...(signal === undefined ? {} : { signal }),
    });
    const answer = await response.text();
    check?.({ method, path, body: text, status: response.status, headers: response.headers, text: answer });
    const isJson = response.headers.get('Content-Type')?.includes('application/json') === true;
    const json = isJson ? JSON.parse(answer) : undefined;
    return { status: response.status, headers: response.headers, text: answer, json };
  };
}

/** Registers a miner that can do what `capabilities` say. */
export async function register(replica: Replica, minerId: string, more: object = {}): Promise<string> {
  const answer = await replica.call('POST', '/v1/miners/register', {
    headers: asMiner(minerId),
    body: { capabilities: {}, ...more },
  });
  if (answer.status !== 200) throw new Error(`register answered ${answer.status}: ${answer.text}`);
  return answer.json.session_token;
}

/** Submits a job of Alice. @returns its id */
export async function submit(replica: Replica, more: object = {}): Promise<string> {
  const body = { payload: { type: 'echo' }, ...more };
  const answer = await replica.call('POST', '/v1/jobs', { headers: ALICE, body });
  if (answer.status !== 201) throw new Error(`submit answered ${answer.status}: ${answer.text}`);
  return answer.json.job_id;
}

/** Polls for a miner. @returns the id of the job, undefined when there was none */
export async function pollOnce(replica: Replica, minerId: string, waitSec = 0): Promise<string | undefined> {
  const answer = await replica.call('POST', '/v1/miners/poll', {
    headers: asMiner(minerId),
    body: { max_wait_seconds: waitSec },
  });
  if (answer.status === 204) return undefined;
  if (answer.status !== 200) throw new Error(`poll answered ${answer.status}: ${answer.text}`);
  return answer.json.job_id;
}

/** A job as Alice sees it. */
export async function jobOf(replica: Replica, jobId: string) {
  return (await replica.call('GET', `/v1/jobs/${jobId}`, { headers: ALICE })).json;
}
