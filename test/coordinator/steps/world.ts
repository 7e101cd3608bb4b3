import postgres from 'postgres';
import { HubClient } from '../../../src/sdk/hub-client.ts';
import { startHubProcess } from '../../sdk/hub-process.ts';
import { profileOf } from '../../sdk/profiles.ts';
import { type Harness, TEST_SECRETS } from '../../support/harness.ts';
import type { TestProcess } from '../../support/processes.ts';
import { ALICE, type Answer, asMiner, type CallOptions, callsTo, ROOT, replicaEnv } from '../replica.ts';
import { startNode, type TestNode } from '../settlement-node.ts';
import { Holds } from './holds.ts';
import { type HubGate, openHubGate } from './hub-gate.ts';

/** A real hub behind a gate, a chain node, a database with holds, and one coordinator after the other. */
export class World {
  readonly sql: postgres.Sql;
  readonly holds: Holds;
  readonly hub: HubClient;
  readonly gate: HubGate;
  readonly node: TestNode;
  readonly #h: Harness;
  #process: TestProcess | undefined;

  private constructor(h: Harness, parts: Pick<World, 'sql' | 'holds' | 'hub' | 'gate' | 'node'>) {
    this.#h = h;
    this.sql = parts.sql;
    this.holds = parts.holds;
    this.hub = parts.hub;
    this.gate = parts.gate;
    this.node = parts.node;
  }

  static async open(h: Harness): Promise<World> {
    const sql = postgres(await h.db(), { max: 4, onnotice: () => {} });
    h.cleanup(() => sql.end());
    const [{ url }, node, holds] = await Promise.all([startHubProcess(h), startNode(h), Holds.open(h)]);
    const gate = await openHubGate(h, url);
    const secrets = { coordinatorSecret: TEST_SECRETS.COORDINATOR_SHARED_SECRET };
    const hub = new HubClient({ urls: [url], ...secrets });
    // What is owed is not due before a test says so: then several payments are under way at the same moment.
    await sql.unsafe(`
      create function public.not_due() returns trigger language plpgsql as
        $$ begin new.due_at := now() + interval '1 day'; return new; end $$;
      create trigger a_not_due before insert on coordinator.settlements for each row execute function public.not_due();`);
    return new World(h, { sql, holds, hub, gate, node });
  }

  /** Starts a coordinator, in place of the one that was killed. */
  async start(): Promise<void> {
    const env = await replicaEnv(this.#h, {
      LOG_LEVEL: 'info',
      POOLHUB_URL: this.gate.url,
      POOLHUB_SECRET: TEST_SECRETS.COORDINATOR_SHARED_SECRET,
      POOLHUB_TIMEOUT_MS: '60000',
      OFFER_WINDOW_MS: '60000',
      OFFER_COUNT: '1',
      RECEIPT_SIGNING_KEY_HEX: '11'.repeat(32),
      SETTLEMENT_DRIVER: 'rpc',
      SETTLEMENT_RPC_URL: this.node.url,
      SETTLEMENT_RPC_TIMEOUT_MS: '60000',
      DB_POOL_MAX: '40',
      DB_STATEMENT_TIMEOUT_MS: '60000',
      MINER_OFFLINE_SEC: '600',
    });
    const ready = /"url":"(http:[^"]+)"/;
    this.#process = await this.#h.startProcess('src/bin/coordinator.ts', { env, ready });
  }

  async kill(): Promise<void> {
    this.#process?.signal('SIGKILL');
    await this.#process?.exited;
  }

  /** A call to the coordinator, once. @throws when it dies before it answers */
  call(method: string, path: string, options: CallOptions): Promise<Answer> {
    return callsTo(this.#process?.ready[1] ?? '')(method, path, options);
  }

  /** Makes a miner known to the hub and the coordinator; the region is its own. */
  async join(minerId: string): Promise<void> {
    await this.hub.register(profileOf(minerId, { region: minerId, max_parallel: 1 }));
    await this.call('POST', '/v1/miners/register', registration(minerId));
  }

  /** As if all the time had passed after which others take over what a process had begun. */
  async letTimePass(): Promise<void> {
    const { sql } = this;
    await sql`update coordinator.jobs j set open_at = now() where state = 'QUEUED' and open_at > now()
      and not exists (select from coordinator.job_offers o where o.job_id = j.job_id)`;
    await sql`update coordinator.jobs set started_at = started_at - interval '1 minute'
      where state = 'RUNNING' and delivered_at is null`;
    await sql`update coordinator.hub_outbox set due_at = now() where done_at is null`;
    await sql`update coordinator.settlements set due_at = now() where state in ('pending', 'escrowed')`;
  }
}

export function registration(minerId: string): CallOptions {
  return { headers: asMiner(minerId), body: { capabilities: {}, region: minerId } };
}

export const asAlice = (key: string, body?: object): CallOptions => ({
  headers: { ...ALICE, 'Idempotency-Key': key },
  ...(body === undefined ? {} : { body }),
});

export const asRoot = (key: string, body: object): CallOptions => ({
  headers: { ...ROOT, 'Idempotency-Key': key },
  body,
});
