import type { Hono } from 'hono';
import type { CoordinatorDeps } from '../../src/coordinator/deps.ts';
import { type CoordinatorConfig, loadCoordinatorConfig } from '../../src/coordinator/environment.ts';
import { createGuards, type Guards } from '../../src/coordinator/guards.ts';
import { createCoordinatorMetrics } from '../../src/coordinator/metrics.ts';
import { type Money, openMoney } from '../../src/coordinator/settlement/effects.ts';
import type { AppEnv } from '../../src/platform/app-env.ts';
import type { Database } from '../../src/platform/db.ts';
import { createHttpApp } from '../../src/platform/http.ts';
import { createLogger } from '../../src/platform/logger.ts';
import type { Harness } from '../support/harness.ts';
import { OTHER_SEED, openDatabase, SIGNING_SEED } from './settlement-world.ts';

export const CLIENT = { 'X-Api-Key': 'client-key' };
export const OTHER_CLIENT = { 'X-Api-Key': 'other-key' };
export const OPERATOR = { 'X-Api-Key': 'operator-key' };

type Mounted = Pick<CoordinatorDeps, 'config' | 'db' | 'money'>;
type Routes = (app: Hono<AppEnv>, deps: Mounted, guards: Guards) => void;

export interface RoutesApp {
  readonly db: Database;
  readonly money: Money;
  readonly config: CoordinatorConfig;
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
}

interface CallOptions {
  /** Sent as it is when it is text, else as JSON. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers freely; assertions say what they expect.
  readonly json: any;
}

/** Some routes of the coordinator on their own, in this process; the guards and the database are the real ones. */
export async function openRoutes(
  h: Harness,
  settings: Record<string, string>,
  ...routes: Routes[]
): Promise<RoutesApp> {
  const config = loadCoordinatorConfig({
    DB_DSN: await h.db(),
    CLIENT_API_KEYS: 'client-1=client-key,client-2=other-key',
    MINER_API_KEYS: 'miner-1=miner-key',
    ADMIN_API_KEYS: 'ops=operator-key',
    RATE_LIMIT_CLIENT_PER_SEC: '1000000',
    RATE_LIMIT_ADMIN_PER_SEC: '1000000',
    RECEIPT_SIGNING_KEY_HEX: SIGNING_SEED,
    RECEIPT_ATTESTATION_KEY_HEX: OTHER_SEED,
    ...settings,
  });
  const db = await openDatabase(h);
  const metrics = createCoordinatorMetrics({ process: false });
  const log = createLogger('silent', 'test');
  const app = createHttpApp({ config, log, metrics, state: { draining: false } });
  const guards = createGuards({ config, db, metrics });
  const money = openMoney(config);
  for (const mount of routes) mount(app, { config, db, money }, guards);

  return {
    db,
    money,
    config,
    async call(method, path, { body, headers = {} } = {}) {
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      const response = await app.request(path, {
        method,
        headers,
        ...(text === undefined ? {} : { body: text }),
      });
      const answer = await response.text();
      const isJson = response.headers.get('Content-Type')?.includes('application/json') === true;
      return {
        status: response.status,
        headers: response.headers,
        text: answer,
        json: isJson ? JSON.parse(answer) : undefined,
      };
    },
  };
}
