import { Cluster, Redis, type RedisOptions } from 'ioredis';

/** One connection to a server, or a pool of them to a cluster. */
export type RedisClient = Redis | Cluster;

/** Less the reply shape, which stays the default everywhere. */
type NodeOptions = Omit<RedisOptions, 'replyMapping'>;

/** Options of ioredis. */
type ConnectionOptions = NodeOptions & {
  /** Whether a connection to a cluster waits until that serves every slot (yes). */
  readonly clusterReadyCheck?: boolean;
};

/** Where Redis is and how long to wait for it. */
export interface RedisTarget {
  /** redis:// or rediss:// URL, or unix socket path as `unix:///path/redis.sock`. With `clusterNodes` only its user, password and TLS count. */
  url: string;
  /** host:port of some nodes of a Redis Cluster; empty for a single server. */
  clusterNodes: readonly string[];
  /** A command that has no answer after this long fails. */
  commandTimeoutMs: number;
}

/** Changes of a cluster that no error tells of (a new replica) are seen after this long. */
const SLOTS_REFRESH_MS = 5_000;

/** Reconnect after 50 ms, doubling to 2 s, with full jitter so that replicas do not return in step. */
function retryDelay(attempt: number): number {
  const ceiling = Math.min(2000, 50 * 2 ** Math.min(attempt, 10));
  return 20 + Math.floor(Math.random() * ceiling);
}

/**
 * Connects for request work: commands fail at once while the server is away (no offline queue, no resend), so
 * that a request answers 503 instead of hanging; the connection itself comes back by itself.
 */
export function connectRedis(target: RedisTarget, name: string, extra: ConnectionOptions = {}): RedisClient {
  const { clusterReadyCheck = true, ...options } = extra;
  const common: NodeOptions = {
    connectionName: name,
    connectTimeout: target.commandTimeoutMs,
    commandTimeout: target.commandTimeoutMs,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: retryDelay,
    ...options,
  };
  if (target.clusterNodes.length > 0) return connectCluster(target, common, clusterReadyCheck);
  // What is sent in the same tick shares a write; on a cluster that is `shareWrites`, for the two do not go together (ioredis #2075).
  const single = { enableAutoPipelining: true, ...common };
  const unix = target.url.startsWith('unix://') ? target.url.slice('unix://'.length) : undefined;
  if (unix === undefined) return new Redis(target.url, single);
  const [path, query] = unix.split('?', 2) as [string, string | undefined];
  return new Redis({ ...single, path, db: Number(new URLSearchParams(query).get('db') ?? 0) });
}

/**
 * While a slot moves or a master is replaced, commands are tried again until they have an answer or `commandTimeoutMs` is over; one whose
 * connection broke may be done twice then, which no script and no command here minds.
 */
function connectCluster(
  { url, clusterNodes, commandTimeoutMs }: RedisTarget,
  common: NodeOptions,
  enableReadyCheck: boolean,
): Cluster {
  const nodes = clusterNodes.map((node) => {
    const at = node.lastIndexOf(':');
    return { host: node.slice(0, at), port: Number(node.slice(at + 1)) };
  });
  return new Cluster(nodes, {
    redisOptions: { ...common, ...credentialsOf(url) },
    enableOfflineQueue: common.enableOfflineQueue ?? false,
    enableReadyCheck,
    clusterRetryStrategy: retryDelay,
    slotsRefreshTimeout: commandTimeoutMs,
    slotsRefreshInterval: SLOTS_REFRESH_MS,
    // Names are left to the connection, so that TLS can check them.
    dnsLookup: (host, callback) => callback(null, host),
  });
}

/** Every node of a cluster takes the same user and password. */
function credentialsOf(url: string): Pick<NodeOptions, 'username' | 'password' | 'tls'> {
  if (url === '' || url.startsWith('unix:')) return {};
  const { protocol, username, password } = new URL(url);
  return {
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    ...(protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

/** Resolves when the connection takes commands; rejects after `timeoutMs`. Errors meanwhile go to the client's `error` event. */
export async function whenReady(redis: RedisClient, timeoutMs: number): Promise<void> {
  if (redis.status === 'ready') return;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      redis.off('ready', ready);
      reject(new Error(`Redis did not answer within ${timeoutMs} ms`));
    }, timeoutMs);
    function ready(): void {
      clearTimeout(timer);
      resolve();
    }
    redis.once('ready', ready);
  });
}

const holding = new WeakSet<Cluster>();

/**
 * Holds back what is written to the masters of a cluster until the end of the tick, so that all of it leaves in one write for each node. Every
 * command is still one by itself: redirected, tried again and loaded anew alone, unlike those of a pipeline. A single server has
 * the pipelining of its connection for that.
 */
export function shareWrites(redis: RedisClient): void {
  if (!(redis instanceof Cluster) || holding.has(redis)) return;
  holding.add(redis);
  // A node without a connection has no stream yet, whatever its type says.
  const streams = redis.nodes('master').flatMap(({ stream }) => stream ?? []);
  for (const stream of streams) stream.cork();
  setImmediate(() => {
    holding.delete(redis);
    for (const stream of streams) stream.uncork();
  });
}

/** The master nodes of a cluster, or the server itself: scripts are loaded on each. */
export function masters(redis: RedisClient): Redis[] {
  return redis instanceof Cluster ? redis.nodes('master') : [redis];
}
