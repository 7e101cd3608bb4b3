import * as v from 'valibot';
import { type Lowered, loadSettings } from '../platform/config.ts';
import { environment as hub, optional, required, setting } from '../platform/environment.ts';
import { decimal, list, oneOf, text, webUrl, whole } from '../platform/settings.ts';

const SEED_HEX = text(/^[0-9a-fA-F]{64}$/, 'must be 32 bytes as 64 hexadecimal digits');

const keyList = v.pipe(
  list(1, 1000),
  v.check(
    (entries) => entries.every((entry) => /^(?:[A-Za-z0-9._:-]{1,64}=)?[^\s=]+=*$/.test(entry)),
    'must be a comma list of key or id=key, an id being 1-64 of A-Z a-z 0-9 . _ : -',
  ),
);

/** What the coordinator shares with the hub, under the same names. */
const shared = {
  LOG_LEVEL: hub.entries.LOG_LEVEL,
  SHUTDOWN_DRAIN_MS: hub.entries.SHUTDOWN_DRAIN_MS,
  SHUTDOWN_TIMEOUT_SEC: hub.entries.SHUTDOWN_TIMEOUT_SEC,
  DB_DSN: hub.entries.DB_DSN,
  DB_POOL_MAX: hub.entries.DB_POOL_MAX,
  DB_CONNECT_TIMEOUT_SEC: hub.entries.DB_CONNECT_TIMEOUT_SEC,
  DB_STATEMENT_TIMEOUT_MS: hub.entries.DB_STATEMENT_TIMEOUT_MS,
  DB_IDLE_TIMEOUT_SEC: hub.entries.DB_IDLE_TIMEOUT_SEC,
  TRUSTED_PROXIES: hub.entries.TRUSTED_PROXIES,
  MAX_BODY_BYTES: hub.entries.MAX_BODY_BYTES,
  COORDINATOR_SHARED_SECRET: v.optional(hub.entries.COORDINATOR_SHARED_SECRET),
};

/** The settings that are the coordinator's own, with their meanings and defaults. */
export const ownSettings = v.object({
  COORDINATOR_BIND: setting(
    'Address the coordinator listens on',
    '127.0.0.1',
    text(/^[A-Za-z0-9_.:-]{1,255}$/, 'must be an address or host name'),
  ),
  COORDINATOR_PORT: setting('Port the coordinator listens on; 0 takes a free one', '8011', whole(0, 65_535)),
  CLIENT_API_KEYS: required('Keys of the clients, as key or id=key; a comma list', keyList),
  MINER_API_KEYS: required('Keys of the miners, as key or id=key; a comma list', keyList),
  ADMIN_API_KEYS: required('Keys of the coordinator administrators, as key or id=key; a comma list', keyList),
  SIGNATURES: setting(
    'optional: X-Signature is checked where it is given; required: calls without it are refused',
    'optional',
    oneOf(['optional', 'required']),
  ),
  SIGNATURE_WINDOW_SEC: setting(
    'Seconds that the timestamp of a signed call may be off; within them it is taken once',
    '300',
    whole(1, 86_400),
  ),
  RATE_LIMIT_CLIENT_PER_SEC: setting(
    'Calls a second of one client, with a burst of as much again; and refused keys and signatures of one network',
    '100',
    whole(1, 1_000_000),
  ),
  RATE_LIMIT_MINER_PER_SEC: setting(
    'Calls a second of one miner to the coordinator, with a burst of as much again',
    '50',
    whole(1, 1_000_000),
  ),
  RATE_LIMIT_ADMIN_PER_SEC: setting(
    'Calls a second of one administrator to the coordinator, with a burst of as much again',
    '50',
    whole(1, 1_000_000),
  ),
  JOB_MAX_ATTEMPTS: setting(
    'Times a job is given to miners that go away without finishing it',
    '3',
    whole(1, 100),
  ),
  MINER_OFFLINE_SEC: setting(
    'Seconds without a heartbeat, poll or result after which a miner is offline and its jobs are queued again; more than a poll is held',
    '60',
    whole(1, 86_400),
  ),
  OFFLINE_MINER_RETENTION_DAYS: setting(
    'Days that the coordinator remembers a miner, and counts its jobs, after it was last heard of',
    '90',
    decimal(0.01, 36_500),
  ),
  POLL_MAX_WAIT_SEC: setting('Seconds a poll is held at most', '25', decimal(0.1, 60)),
  MAX_POLLS: setting('Polls that one coordinator holds at a time', '20000', whole(1, 1_000_000)),
  MAX_STREAMS: setting('Event streams and stream sockets of one coordinator', '5000', whole(1, 1_000_000)),
  MAX_STREAMS_PER_CLIENT: setting(
    'Event streams and stream sockets of one client on one coordinator',
    '500',
    whole(1, 1_000_000),
  ),
  STREAM_KEEP_ALIVE_SEC: setting(
    'Seconds between signs of life on an event stream, each of which finds what a lost notice kept back; a stream socket hears resync every four',
    '15',
    decimal(0.05, 60),
  ),
  SWEEP_INTERVAL_MS: setting(
    'Milliseconds between looks for jobs and miners whose time is up, and for notices that got lost',
    '1000',
    whole(20, 60_000),
  ),
  POOLHUB_URL: optional(
    'Base URLs of the pool hub or its replicas, a comma list; no offers without',
    list(1, 64),
  ),
  POOLHUB_SECRET: optional(
    'Secret by which the coordinator calls the pool hub; else the first of COORDINATOR_SHARED_SECRET',
    text(/^\S{1,256}$/, 'must have 1 to 256 characters and no blanks'),
  ),
  POOLHUB_TIMEOUT_MS: setting('Milliseconds the pool hub may take to answer', '1000', whole(10, 60_000)),
  OFFER_WINDOW_MS: setting(
    'Milliseconds in which only the miners that the pool hub chose may take a job',
    '1500',
    whole(0, 600_000),
  ),
  OFFER_COUNT: setting('Miners a job is offered to first', '3', whole(1, 100)),
  JOB_RETENTION_DAYS: setting(
    'Days that a job is kept after it is over, and with it its Idempotency-Key; receipts, settlements and usage stay',
    '30',
    decimal(0.01, 36_500),
  ),
  OUTBOX_KEEP_DAYS: setting('Days that reports the pool hub has are kept', '7', decimal(0.01, 3650)),
  RECEIPT_SIGNING_KEY_HEX: optional(
    'Ed25519 seed that signs receipts, 64 hexadecimal digits; no receipts without',
    SEED_HEX,
  ),
  RECEIPT_ATTESTATION_KEY_HEX: optional(
    'Ed25519 seed of the attestations on receipts; none without',
    SEED_HEX,
  ),
  SETTLEMENT_DRIVER: setting(
    'none: what is owed is kept; rpc: it is sent to the chain node',
    'none',
    oneOf(['none', 'rpc']),
  ),
  SETTLEMENT_RPC_URL: optional('Base URL of the chain node', webUrl()),
  SETTLEMENT_RPC_TIMEOUT_MS: setting(
    'Milliseconds the chain node may take to answer',
    '5000',
    whole(10, 600_000),
  ),
  BILLING_TAX_RATE: setting('Tax on invoices, as a share (0.19)', '0', decimal(0, 1)),
  BILLING_DUE_DAYS: setting('Days after which an invoice is due', '30', whole(0, 3650)),
});

const environment = v.pipe(
  v.object({ ...shared, ...ownSettings.entries }),
  v.forward(
    v.check(
      ({ POOLHUB_URL, POOLHUB_SECRET, COORDINATOR_SHARED_SECRET }) =>
        POOLHUB_URL === undefined || (POOLHUB_SECRET ?? COORDINATOR_SHARED_SECRET) !== undefined,
      'is required with POOLHUB_URL (or COORDINATOR_SHARED_SECRET)',
    ),
    ['POOLHUB_SECRET'],
  ),
  v.forward(
    v.check(
      ({ POOLHUB_URL }) =>
        (POOLHUB_URL ?? []).every((item) => /^https?:\/\//.test(item) && URL.canParse(item)),
      'must be a comma list of http or https URLs',
    ),
    ['POOLHUB_URL'],
  ),
  v.forward(
    v.check(
      ({ POLL_MAX_WAIT_SEC, MINER_OFFLINE_SEC }) => MINER_OFFLINE_SEC > POLL_MAX_WAIT_SEC,
      'must be more than POLL_MAX_WAIT_SEC',
    ),
    ['MINER_OFFLINE_SEC'],
  ),
  v.forward(
    v.check(
      ({ SETTLEMENT_DRIVER, SETTLEMENT_RPC_URL }) =>
        SETTLEMENT_DRIVER === 'none' || SETTLEMENT_RPC_URL !== undefined,
      'is required with SETTLEMENT_DRIVER=rpc',
    ),
    ['SETTLEMENT_RPC_URL'],
  ),
);

/** The settings of a coordinator, under the lower case of their names. */
export type CoordinatorConfig = Lowered<v.InferOutput<typeof environment>>;

/**
 * Reads every setting of the coordinator from the environment.
 * @throws ConfigError naming every bad or missing setting at once
 */
export function loadCoordinatorConfig(
  env: Readonly<Record<string, string | undefined>> = process.env,
): CoordinatorConfig {
  return loadSettings(environment, env);
}
