/** How a call proves who it is: a session (digest of its token) or a key (HMAC digest of the API key). */
export type Credential = { kind: 'session' | 'key'; digest: string };

/** Lease as the server granted it; times in ms since the epoch by the clock of Redis. */
export interface Lease {
  nowMs: number;
  leaseUntilMs: number;
  /** The registry forgets the miner, and the session ends, when no heartbeat comes before this. */
  sessionUntilMs: number;
  /** When the server wants the next heartbeat: lease/3 with jitter, stretched for a large fleet. */
  nextHeartbeatMs: number;
}

/** A command waiting for the miner; `id` is what it acknowledges. */
export interface PendingCommand {
  id: string;
  name: string;
  args: Record<string, unknown>;
}

/** Profile of a miner, normalised (lower-case accel and region, no duplicates, defaults applied). Unknown numbers are ''. */
export interface MinerProfile {
  addr: string;
  proto: string;
  gpu_name: string;
  gpu_key: string;
  gpu_count: number;
  gpu_vram_gb: number | '';
  ram_gb: number | '';
  cpu_cores: number | '';
  max_parallel: number;
  /** Decimal string, tokens per 1,000 s. */
  base_price: string;
  tags: string[];
  capabilities: string[];
  accel: string[];
  region: string;
  /** Which of accel and region the miner did not name: they follow from the rest. */
  derived: string[];
  tenant_id: string;
  wallet_address: string;
}

/** What Postgres remembers of a miner that the registry had forgotten. */
export interface DurableState {
  alpha: number;
  beta: number;
  /** Number of feedback steps behind alpha and beta; the newer wins. */
  trustSeq: number;
  observedLatencyMs: number | '';
  observedSamples: number;
  priceOverride: string;
  priceOverrideUntilMs: number | '';
}

export interface RegisterInput {
  minerId: string;
  keyDigest: string;
  sessionDigest: string;
  profile: MinerProfile;
  /** Given once Postgres has vouched for the key; without it, only a miner whose key Redis knows may register. */
  durable?: DurableState;
}

export type RegisterResult =
  | ({ status: 'ok'; created: boolean } & Lease)
  /** Redis does not know this key for this miner: Postgres must decide. */
  | { status: 'unknown_key' }
  | TooManyTerms
  | { status: 'journal_full' };

/** The shard has MAX_TERMS_PER_SHARD distinct terms, and no room for this new one. */
export type TooManyTerms = { status: 'too_many_terms'; term: string };

/** Live readings of a heartbeat; a field that is absent keeps its value. */
export interface Beat {
  queue_len?: number;
  busy?: boolean;
  avg_latency_ms?: number;
  temp_c?: number;
  mem_free_gb?: number;
  /** How many jobs run now. */
  current_jobs?: number;
}

/** Changes of the profile that come with an update. */
export interface ProfileChange {
  base_price?: string;
  tags?: string[];
  capabilities?: string[];
  accel?: string[];
  region?: string;
  max_parallel?: number;
  draining?: boolean;
}

export type BeatResult =
  | ({ status: 'ok'; commands: PendingCommand[] } & Lease)
  | { status: 'session_unknown' };

export type UpdateResult =
  | BeatResult
  | TooManyTerms
  | { status: 'journal_full' }
  /** The profile is not the one that the changes follow from. */
  | { status: 'overtaken' };

/** Every field of the miner's hash as stored; see docs/OPERATIONS.md for their meaning. */
export type MinerHash = Record<string, string>;

/** Filters of the admin list; all given ones must hold. */
export interface ListFilter {
  state?: 'online' | 'degraded' | 'busy' | 'draining' | 'full';
  region?: string;
  capability?: string;
  tag?: string;
}

export interface ListPage {
  miners: MinerHash[];
  total: number;
  /** Opaque; absent on the last page. */
  nextCursor?: string;
}

/** Live totals over all shards. */
export interface FleetStats {
  registered: number;
  online: number;
  degraded: number;
  matchable: number;
  busy: number;
  draining: number;
  full: number;
  reservations: number;
  /** Mean effective latency of the online miners whose latency is known; null when none is. */
  avgLatencyMs: number | null;
  /** Miners removed by the reaper, and removals it held back, since the shard was made. */
  reaped: number;
  reaperHeld: number;
  journalEntries: number;
  /** Notices of removed miners that did not fit into a full journal. */
  journalSkipped: number;
}
