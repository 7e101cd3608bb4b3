import * as v from 'valibot';
import {
  cidrs,
  decimal,
  hostPorts,
  list,
  oneOf,
  price,
  strategies,
  text,
  url,
  webUrl,
  weights,
  whole,
} from './settings.ts';

const DAY_MS = 86_400_000;

/** What .env.example and the docs say about a setting. */
export interface SettingDoc {
  readonly name: string;
  readonly doc: string;
  /** The default as written in the environment; undefined when there is none. */
  readonly default: string | undefined;
  readonly required: boolean;
}

type Text<T> = v.GenericSchema<string, T>;

/** A setting with a default. */
export function setting<const D extends string, T>(doc: string, fallback: D, schema: Text<T>) {
  return v.pipe(v.optional(schema, fallback), v.description(doc));
}

/** A setting without which nothing starts. */
export function required<T>(doc: string, schema: Text<T>) {
  return v.pipe(schema, v.description(doc));
}

/** A setting that may be left out. */
export function optional<T>(doc: string, schema: Text<T>) {
  return v.pipe(v.optional(schema), v.description(doc));
}

/** Every setting of the hub, the worker and the command line, with its meaning and default. */
export const environment = v.object({
  POOLHUB_BIND: setting(
    'Address the hub listens on',
    '127.0.0.1',
    text(/^[A-Za-z0-9_.:-]{1,255}$/, 'must be an address or host name'),
  ),
  POOLHUB_PORT: setting('Port the hub listens on; 0 takes a free one', '8203', whole(0, 65_535)),
  WORKER_PORT: optional(
    'Port for /livez and /metrics of the worker, on POOLHUB_BIND; none when unset, 0 takes a free one',
    whole(0, 65_535),
  ),
  LOG_LEVEL: setting(
    'Least severe log lines to write: trace, debug, info, warn, error, fatal or silent',
    'info',
    oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
  ),
  SHUTDOWN_DRAIN_MS: setting(
    'Milliseconds a stopping hub still takes requests while /readyz says 503, so that load balancers look away first',
    '500',
    whole(0, 60_000),
  ),
  SHUTDOWN_TIMEOUT_SEC: setting(
    'Seconds a stopping process waits for its work in flight',
    '10',
    whole(1, 300),
  ),

  DB_DSN: required(
    'Postgres, as postgresql://user:password@host:port/database',
    url(['postgres:', 'postgresql:']),
  ),
  DB_POOL_MAX: setting('Postgres connections of one process at most', '10', whole(1, 200)),
  DB_CONNECT_TIMEOUT_SEC: setting('Seconds to wait for a Postgres connection', '3', whole(1, 60)),
  DB_STATEMENT_TIMEOUT_MS: setting('Milliseconds a Postgres statement may take', '5000', whole(100, 600_000)),
  DB_IDLE_TIMEOUT_SEC: setting(
    'Seconds after which an idle Postgres connection closes',
    '30',
    whole(1, 3600),
  ),

  REDIS_URL: optional(
    'Redis 7.0 or newer (or Valkey), as redis://user:password@host:port/database or unix:///path/redis.sock; needed unless REDIS_CLUSTER_NODES is set',
    url(['redis:', 'rediss:', 'unix:']),
  ),
  REDIS_CLUSTER_NODES: setting(
    'Nodes of a Redis Cluster to start from, as host:port,host:port; of REDIS_URL only the user, password and TLS (rediss:) are used then',
    '',
    hostPorts(),
  ),
  REDIS_PREFIX: setting(
    'What every Redis key starts with',
    'ph',
    text(/^[A-Za-z0-9_-]{1,32}$/, 'must be 1-32 letters, digits, _ or -'),
  ),
  REDIS_SHARDS: setting(
    'Shards of a new registry; 1, or 16 and more on a Redis Cluster; `poolhub shards rebalance` changes it later',
    '1',
    whole(1, 1024),
  ),
  REDIS_COMMAND_TIMEOUT_MS: setting(
    'Milliseconds a Redis command or connection attempt may take',
    '800',
    whole(50, 60_000),
  ),

  COORDINATOR_SHARED_SECRET: required(
    'Secrets of the coordinators; a comma list while rotating',
    list(1, 16),
  ),
  COORDINATOR_ALLOWLIST: setting(
    'CIDR blocks, IPv4 and IPv6, that coordinators may call from; anywhere when empty',
    '',
    cidrs(),
  ),
  TRUSTED_PROXIES: setting('CIDR blocks of the proxies whose X-Forwarded-For is believed', '', cidrs()),
  ADMIN_API_KEY: required('Keys of the administrators; a comma list while rotating', list(1, 16)),
  API_KEY_PEPPER: required(
    'Server key of the HMAC-SHA-256 digests under which miner keys are stored; changing it voids every miner key',
    text(/^.{16,256}$/, 'must have 16 to 256 characters'),
  ),
  MINER_ENROLLMENT: setting(
    'closed: only enrolled miners may register; open: the first registration of an id binds its key',
    'closed',
    oneOf(['closed', 'open']),
  ),
  MINER_RETENTION_DAYS: setting('Days that open enrollment keeps silent miners', '90', whole(1, 36_500)),

  SESSION_TTL_SEC: setting('Seconds a lease lasts without a heartbeat', '60', whole(1, 86_400)),
  HEARTBEAT_GRACE_SEC: setting('Seconds a miner stays, degraded, after its lease', '120', whole(1, 86_400)),
  HEARTBEAT_TARGET_PER_SEC: setting(
    'Heartbeats a second of the whole fleet past which the intervals and leases stretch',
    '5000',
    whole(1, 10_000_000),
  ),
  SELF_PRESERVATION_PCT: setting(
    'Percent of the fleet that may be removed a minute before the reaper holds back',
    '15',
    decimal(1, 100),
  ),
  SELF_PRESERVATION_MIN_MINERS: setting(
    'Fleets smaller than this are never held back',
    '20',
    whole(0, 1_000_000),
  ),
  DEFAULT_REGION: setting(
    'Region of a miner that names none',
    'global',
    text(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1-64 letters, digits, ., _ or -'),
  ),
  MAX_TERMS_PER_SHARD: setting(
    'Distinct index terms (tags, capabilities, GPU names, regions) of one shard',
    '20000',
    whole(100, 1_000_000),
  ),
  COMMANDS_MAX_PENDING: setting(
    'Unacknowledged commands of one miner; more are refused',
    '64',
    whole(1, 1000),
  ),

  DEFAULT_WEIGHTS: setting(
    'Weights of the score parts, summing to 1: the strategy balanced',
    'cap:0.4,price:0.2,latency:0.2,trust:0.15,load:0.05',
    weights(),
  ),
  STRATEGIES: setting(
    'More strategies, or other weights for cheapest, fastest, trusted, as name=cap:0.4,price:0.2,latency:0.2,trust:0.15,load:0.05;name2=...; 8 in all',
    '',
    strategies(),
  ),
  RESERVATION_MAX_TTL_MS: setting('Milliseconds a reservation may last', '600000', whole(1000, DAY_MS)),

  TRUST_HALF_LIFE_DAYS: setting(
    'Days in which what a miner earned or lost in trust halves',
    '7',
    decimal(0.01, 3650),
  ),
  FEEDBACK_RETENTION_DAYS: setting('Days that feedback is kept', '400', whole(1, 36_500)),
  TRUST_TRANSIENT_CODES: setting(
    'Fail codes that are not the fault of the miner and cost a quarter',
    'timeout,network,preempted,cancelled',
    list(0, 64),
  ),
  STATUS_FLUSH_SEC: setting(
    'Seconds between writes of the miners that changed to Postgres',
    '30',
    whole(1, 3600),
  ),
  JOURNAL_MAX_ENTRIES: setting(
    'Durable effects of one shard that may wait for Postgres; past it feedback answers 503',
    '1000000',
    whole(100, 100_000_000),
  ),

  SLA_UPTIME_THRESHOLD: setting('Percent of the time that a miner must be online', '95.0', decimal(0, 100)),
  SLA_RESPONSE_TIME_THRESHOLD: setting(
    'Milliseconds that a job may take on average',
    '1000.0',
    decimal(1, 86_400_000),
  ),
  SLA_COMPLETION_RATE_THRESHOLD: setting(
    'Percent of its jobs that a miner must complete',
    '90.0',
    decimal(0, 100),
  ),
  SLA_CAPACITY_THRESHOLD: setting(
    'Percent of the places in the pool that must be online',
    '80.0',
    decimal(0, 100),
  ),
  SLA_COLLECTION_INTERVAL_SECONDS: setting(
    'Seconds between measurements of the service levels',
    '300',
    whole(1, 86_400),
  ),
  SLA_WINDOW_SEC: setting(
    'Seconds in a row of the service levels; miners are judged by the current row and the one before',
    '3600',
    whole(1, 86_400),
  ),
  SLA_ROLLUP_DAYS: setting('Days after which the rows of a day become one', '7', whole(1, 3650)),
  SLA_RETENTION_DAYS: setting(
    'Days that service levels, resolved violations, alerts, capacity snapshots and billed usage are kept',
    '400',
    whole(1, 36_500),
  ),
  CAPACITY_FORECAST_HOURS: setting('Hours that a forecast looks ahead when not asked', '168', whole(1, 720)),
  CAPACITY_ALERT_THRESHOLD_PCT: setting(
    'Percent of the online places in use from which on an alert is given',
    '80.0',
    decimal(1, 100),
  ),

  COORDINATOR_BILLING_URL: optional(
    'Base URL of the coordinator that bills usage; without one the records wait',
    webUrl(),
  ),
  COORDINATOR_API_KEY: optional(
    'Key by which the hub sends usage to the coordinator',
    text(/^[\x21-\x7e]{1,256}$/, 'must have 1 to 256 characters and no blanks'),
  ),
  COORDINATOR_BILLING_TIMEOUT_MS: setting('Milliseconds it may take to answer', '5000', whole(10, 60_000)),
  BILLING_SYNC_INTERVAL_HOURS: setting('Hours between syncs of usage', '1', decimal(0.0001, 168)),
  BILLING_PRICE_GPU_HOURS: setting('USD for an hour of one GPU', '0.50', price()),
  BILLING_PRICE_COMPUTE_HOURS: setting('USD for an hour of compute', '0.30', price()),
  BILLING_PRICE_API_CALLS: setting('USD for an accepted job', '0.0001', price()),

  MAX_BODY_BYTES: setting('Bytes of a request body', '262144', whole(1024, 16_777_216)),
  WS_MAX_FRAME_BYTES: setting('Bytes of a WebSocket frame', '16384', whole(1024, 1_048_576)),
  WS_MAX_SOCKETS: setting('Open miner sockets of one hub', '25000', whole(1, 1_000_000)),
  RATE_LIMIT_REGISTER_PER_SEC: setting(
    'Registrations a second of one client address, with a burst of as much again',
    '5',
    whole(1, 1_000_000),
  ),
  RATE_LIMIT_MATCH_PER_SEC: setting(
    'Matches a second of one coordinator secret and address, with a burst of as much again',
    '40',
    whole(1, 1_000_000),
  ),
  RATE_LIMIT_DEFAULT_PER_SEC: setting(
    'Calls a second to any other route of one client, with a burst of as much again; and refused credentials of one network',
    '200',
    whole(1, 1_000_000),
  ),
  RATE_LIMIT_HEARTBEAT_PER_SEC: setting(
    'Miner calls a second (heartbeat, update, renew) of one session, over HTTP or WebSocket, with a burst of as much again',
    '5',
    whole(1, 1_000_000),
  ),
});

/** The shape of a schema of settings, as its documentation reads it. */
interface Settings {
  readonly entries: Readonly<
    Record<
      string,
      v.GenericSchema & { readonly pipe: readonly [{ type: string; default?: unknown }, ...unknown[]] }
    >
  >;
}

/** What each setting means, from the schema itself, in the order of .env.example. */
export function describeSettings(settings: Settings = environment): readonly SettingDoc[] {
  return Object.entries(settings.entries).map(([name, schema]) => {
    const wrapped = schema.pipe[0];
    return {
      name,
      doc: v.getDescription(schema) ?? '',
      default:
        wrapped.type === 'optional' && typeof wrapped.default === 'string' ? wrapped.default : undefined,
      required: wrapped.type !== 'optional',
    };
  });
}
