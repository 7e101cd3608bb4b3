import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { type PrivateRedis, privateRedis } from '../../src/embedded/redis.ts';
import { waitFor } from './wait-for.ts';

const MASTERS = 3;
const REPLICAS = 3;
const SLOTS = 16_384;
const SHARDS = 16;

/** Silence after which a node counts as failed. */
const NODE_TIMEOUT_MS = 1_000;
const FORM_TIMEOUT_MS = 30_000;

/** One node of a cluster. */
export interface ClusterNode {
  readonly server: PrivateRedis;
  readonly port: number;
  /** Its name in the cluster. */
  readonly id: string;
  /** A connection to just this node, which comes back with it. */
  readonly redis: Redis;
}

/** A Redis Cluster on loopback, of the same program as every other Redis here. */
export interface PrivateCluster {
  /** Where it is, as settings of a process. */
  readonly settings: Readonly<Record<'REDIS_URL' | 'REDIS_CLUSTER_NODES' | 'REDIS_SHARDS', string>>;
  /** Masters first, as it was formed. */
  readonly nodes: readonly ClusterNode[];
  /** The living master that serves a slot, by what the living nodes say. */
  masterOf(slot: number): Promise<ClusterNode>;
  /** Gives a slot to another master, a few keys at a time, as `redis-cli --cluster reshard` does. */
  moveSlot(slot: number, to: ClusterNode): Promise<void>;
  /** Resolves once all living nodes say that every slot is served, and each master has `replicas` replicas in step. */
  settled(replicas?: number): Promise<void>;
}

/** Starts six servers and makes a cluster of them. */
export async function startCluster(cleanup: (work: () => unknown) => void): Promise<PrivateCluster> {
  const password = randomBytes(24).toString('hex');
  const nodes = await Promise.all(
    Array.from({ length: MASTERS + REPLICAS }, () => startNode(password, cleanup)),
  );
  const first = nodes[0] as ClusterNode;
  await form(nodes);
  const cluster = {
    settings: {
      REDIS_URL: first.server.url,
      REDIS_CLUSTER_NODES: nodes.map(({ port }) => `127.0.0.1:${port}`).join(),
      REDIS_SHARDS: String(SHARDS),
    },
    nodes,
    masterOf: (slot: number) => findMaster(nodes, slot),
    moveSlot: (slot: number, to: ClusterNode) => moveSlot(nodes, slot, to, password),
    settled: (replicas = 1) => untilSettled(nodes, replicas),
  };
  await cluster.settled();
  return cluster;
}

async function startNode(password: string, cleanup: (work: () => unknown) => void): Promise<ClusterNode> {
  const settings = [
    'cluster-enabled yes',
    `cluster-node-timeout ${NODE_TIMEOUT_MS}`,
    // A replica that lost its master may always take over, however long it had no word of it.
    'cluster-replica-validity-factor 0',
    'repl-diskless-sync-delay 0',
    'repl-ping-replica-period 1',
  ];
  const server = await privateRedis({ env: process.env, say: console.error, settings, password });
  cleanup(() => server.dispose());
  const redis = new Redis(server.url, { maxRetriesPerRequest: 0, retryStrategy: () => 100 });
  // A node that a test killed: what a test asks of it fails by itself.
  redis.on('error', () => {});
  cleanup(() => redis.disconnect());
  return {
    server,
    port: Number(new URL(server.url).port),
    redis,
    id: (await redis.cluster('MYID')) as string,
  };
}

async function form(nodes: readonly ClusterNode[]): Promise<void> {
  const [first] = nodes as [ClusterNode];
  for (const [at, { redis }] of nodes.entries()) {
    await redis.call('CLUSTER', 'SET-CONFIG-EPOCH', at + 1);
    if (at >= MASTERS) continue;
    const from = Math.floor((SLOTS * at) / MASTERS);
    const to = Math.floor((SLOTS * (at + 1)) / MASTERS) - 1;
    await redis.call('CLUSTER', 'ADDSLOTSRANGE', from, to);
  }
  for (const { port } of nodes) await first.redis.call('CLUSTER', 'MEET', '127.0.0.1', port);
  for (const [at, { redis }] of nodes.entries()) {
    const master = nodes[at - MASTERS];
    if (master === undefined) continue;
    // Refused until the gossip has told this node of its master.
    await waitFor(async () => (await redis.call('CLUSTER', 'REPLICATE', master.id)) === 'OK', {
      timeoutMs: FORM_TIMEOUT_MS,
      what: 'a replica knows its master',
    });
  }
}

const living = (nodes: readonly ClusterNode[]) => nodes.filter(({ redis }) => redis.status === 'ready');

async function findMaster(nodes: readonly ClusterNode[], slot: number): Promise<ClusterNode> {
  return waitFor(
    async () => {
      const [asked] = living(nodes) as [ClusterNode];
      const ranges = await asked.redis.cluster('SLOTS');
      const range = ranges.find(([from, to]) => from <= slot && slot <= to);
      return living(nodes).find(({ id }) => id === range?.[2]?.[2]);
    },
    { timeoutMs: FORM_TIMEOUT_MS, what: `slot ${slot} has a living master` },
  );
}

/** So few that a move takes many steps, between which others come. */
const KEYS_PER_STEP = 5;

async function moveSlot(
  nodes: readonly ClusterNode[],
  slot: number,
  to: ClusterNode,
  password: string,
): Promise<void> {
  const from = await findMaster(nodes, slot);
  await untilAgreed(nodes, slot, from);
  await to.redis.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id);
  await from.redis.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id);
  for (;;) {
    const keys = (await from.redis.call('CLUSTER', 'GETKEYSINSLOT', slot, KEYS_PER_STEP)) as string[];
    if (keys.length === 0) break;
    const target = ['127.0.0.1', to.port, '', 0, 5_000] as const;
    await from.redis.call('MIGRATE', ...target, 'AUTH', password, 'KEYS', ...keys);
  }
  // Each master is told, as redis-cli does. One that is left to the gossip may believe an older owner whose epoch grew meanwhile, and talk the
  // new one out of the slot: then both send clients to each other, for good.
  const others = nodes.slice(0, MASTERS).filter(({ id }) => id !== to.id && id !== from.id);
  for (const { redis } of [to, from, ...others]) await redis.call('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
  await untilAgreed(nodes, slot, to);
}

/**
 * Waits until all know the owner of a slot and the same newest epoch, which one master has: the next owner takes an epoch above all that it knows
 * of, and must know of all.
 */
async function untilAgreed(nodes: readonly ClusterNode[], slot: number, owner: ClusterNode): Promise<void> {
  const agreed = async () => {
    const views = await Promise.all(nodes.map(({ redis }) => redis.cluster('SLOTS')));
    const seen = views.map(
      (ranges) => ranges.find(([first, last]) => first <= slot && slot <= last)?.[2]?.[2],
    );
    const infos = await Promise.all(nodes.map(async ({ redis }) => String(await redis.cluster('INFO'))));
    const epochs = (name: string, from: readonly string[]) =>
      new Set(from.map((info) => new RegExp(`cluster_${name}_epoch:(\\d+)`).exec(info)?.[1])).size;
    const distinct = epochs('my', infos.slice(0, MASTERS)) === MASTERS;
    return seen.every((id) => id === owner.id) && epochs('current', infos) === 1 && distinct;
  };
  await waitFor(agreed, { timeoutMs: FORM_TIMEOUT_MS, what: `all nodes agree on the owner of slot ${slot}` });
}

async function untilSettled(nodes: readonly ClusterNode[], replicas: number): Promise<void> {
  const isSettled = async ({ redis }: ClusterNode) => {
    const info = String(await redis.cluster('INFO'));
    if (!/cluster_state:ok/.test(info) || !info.includes(`cluster_known_nodes:${nodes.length}`)) return false;
    const replication = await redis.info('replication');
    if (/role:slave/.test(replication)) return /master_link_status:up/.test(replication);
    return (replication.match(/state=online/g)?.length ?? 0) >= replicas;
  };
  await waitFor(async () => (await Promise.all(living(nodes).map(isSettled))).every(Boolean), {
    timeoutMs: FORM_TIMEOUT_MS,
    what: 'the cluster is settled',
  });
}
