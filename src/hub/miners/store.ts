import { controlChannel, keys, shardPrefix } from '../../platform/keys.ts';
import { type RedisClient, shareWrites } from '../../platform/redis.ts';
import { callToken, type ScriptReply, type Scripts } from '../../platform/scripts.ts';
import type { Homes } from '../registry/homes.ts';
import { Gatherer } from './gatherer.ts';
import { profileDigest, profileFields } from './profile.ts';
import { type BeatArguments, beatArguments, beatResult, durableJson, leaseOf, text } from './replies.ts';
import type {
  Beat,
  BeatResult,
  Credential,
  FleetStats,
  ListFilter,
  ListPage,
  MinerHash,
  PendingCommand,
  ProfileChange,
  RegisterInput,
  RegisterResult,
  UpdateResult,
} from './types.ts';

/** What one batch of the reaper did. */
export interface ReapResult {
  /** Due entries of all kinds; 0 when nothing is due. */
  stepped: number;
  degraded: number;
  removed: number;
  held: number;
}

const LIST_TERMS: Record<NonNullable<ListFilter['state']>, string> = {
  online: 'state:online',
  degraded: 'state:degraded',
  busy: 'busy',
  draining: 'draining',
  full: 'full',
};

/** Due entries that one call of the reaper takes: a removal costs tens of microseconds, and no call may hold Redis for 5 ms. */
export const REAP_BATCH = 25;

/** Due entries that each beacon of a hub steps. */
const BEACON_STEPS = 25;

/** Heartbeats in one call of the script: it pays for its set-up once, and stays far below the 5 ms that no call may exceed. */
const BEATS_PER_CALL = 16;
const CALLS_PER_SHARD = 2;

interface StoreOptions {
  /** Heartbeats that come within so many ms share round trips; 0: those of one tick. */
  gatherMs?: number;
}

/** Typed callers of the registry's scripts: one method, one script, one round trip. Throws what Redis throws. */
export class MinerStore {
  readonly #scripts: Scripts;
  readonly #redis: RedisClient;
  readonly #homes: Homes;
  readonly #channel: string;
  readonly #beats: Gatherer<BeatArguments, ScriptReply>;

  constructor(scripts: Scripts, redis: RedisClient, homes: Homes, options: StoreOptions = {}) {
    this.#scripts = scripts;
    this.#redis = redis;
    this.#homes = homes;
    this.#channel = controlChannel(scripts.prefix);
    this.#beats = new Gatherer((shard, beats) => this.#sendBeats(shard, beats), {
      everyMs: options.gatherMs ?? 0,
      perBatch: BEATS_PER_CALL,
      perShard: CALLS_PER_SHARD,
    });
  }

  /** Registers or registers again; `unknown_key` asks the caller to have Postgres vouch for the key (`input.durable`). */
  async register(input: RegisterInput): Promise<RegisterResult> {
    const { minerId, keyDigest, sessionDigest, profile, durable } = input;
    const reply = await this.#homes.runAtHome('miners/register', minerId, [
      keyDigest,
      sessionDigest,
      this.#channel,
      JSON.stringify({ miner_id: minerId, ...profile }),
      profileDigest(profile),
      durable === undefined ? '' : durableJson(durable),
      ...profileFields(profile),
    ]);
    if (reply[0] === 'too_many_terms') return { status: reply[0], term: reply[1] as string };
    if (reply[0] === 'unknown_key' || reply[0] === 'journal_full') return { status: reply[0] };
    return { status: 'ok', created: reply[1] === 1, ...leaseOf(reply.slice(2)) };
  }

  /** One heartbeat; those of about the same time share a call. `ack`: ids of commands that the miner has carried out, at most 64. */
  async heartbeat(
    minerId: string,
    credential: Credential,
    beat: Beat,
    ack: string[] = [],
  ): Promise<BeatResult> {
    const beating = beatArguments(minerId, credential, beat, ack);
    return beatResult(await this.#homes.serve(minerId, (shard) => this.#beats.add(shard, beating)));
  }

  /** Renews the lease without readings. */
  renew(minerId: string, credential: Credential): Promise<BeatResult> {
    return this.heartbeat(minerId, credential, {});
  }

  /**
   * A heartbeat that also changes the profile; nothing changes unless all of it can.
   * @param seen version of the profile that the changes follow from, where they do
   */
  async update(
    minerId: string,
    credential: Credential,
    beat: Beat,
    change: ProfileChange,
    seen = '',
  ): Promise<UpdateResult> {
    const { draining, ...fields } = change;
    const reply = await this.#run('miners/update', minerId, [
      credential.kind,
      credential.digest,
      text(beat.queue_len),
      text(beat.busy),
      text(beat.avg_latency_ms),
      text(beat.current_jobs),
      text(draining),
      seen,
      ...profileFields(fields),
    ]);
    if (reply[0] === 'too_many_terms') return { status: reply[0], term: reply[1] as string };
    if (reply[0] === 'journal_full' || reply[0] === 'overtaken') return { status: reply[0] };
    return beatResult(reply);
  }

  /** The miner leaves; it is gone from the registry at once. */
  async logout(minerId: string, credential: Credential): Promise<{ status: 'ok' | 'session_unknown' }> {
    return { status: await this.#leave(minerId, credential.kind, credential.digest, 'logout') };
  }

  /** An operator takes a miner out; false when it is not in the registry. */
  async remove(minerId: string, reason: string): Promise<boolean> {
    return (await this.#leave(minerId, 'operator', '', reason)) === 'ok';
  }

  /** Forgets the key of a live miner, so that its next registration is decided by Postgres. */
  async forgetKey(minerId: string): Promise<void> {
    // HSET would make a hash for an unknown miner; HDEL never does.
    await this.#homes.find(minerId, (shard) => this.#redis.hdel(keys.miner(shard, minerId), 'key_digest'));
  }

  /**
   * Queues a command; `drain` and `resume` take effect at once, and so does a `priceCap` (decimal string, `none` lifts it).
   */
  async addCommand(
    minerId: string,
    name: string,
    args: Record<string, unknown>,
    priceCap?: string,
  ): Promise<{ status: 'ok'; id: string } | { status: 'unknown_miner' } | { status: 'full' }> {
    const reply = await this.#run('miners/command', minerId, [
      name,
      JSON.stringify(args),
      this.#channel,
      priceCap ?? '',
      callToken(),
    ]);
    if (reply[0] === 'unknown_miner' || reply[0] === 'full') return { status: reply[0] };
    return { status: 'ok', id: reply[1] as string };
  }

  /** Sets (`price`: decimal string) or lifts (null) the override of a live miner; false when it is not in the registry. */
  async setPriceOverride(minerId: string, price: string | null, untilMs?: number): Promise<boolean> {
    const reply = await this.#run('miners/override', minerId, [price ?? '', text(untilMs)]);
    return reply[0] === 'ok';
  }

  /** One bounded batch of the reaper on one shard. */
  async reap(shard: number, limit: number): Promise<ReapResult> {
    const reply = await this.#scripts.run('miners/reap', shard, [limit]);
    const [stepped, degraded, removed, held] = reply.slice(1) as [number, number, number, number];
    return { stepped, degraded, removed, held };
  }

  /** Says on every shard that a hub is there; returns the longest silence (ms) when one outlasted a lease. */
  async alive(): Promise<number | undefined> {
    const replies = await this.#homes.onAll('miners/alive', [BEACON_STEPS]);
    const silences = replies.filter((reply) => reply[0] === 'outage').map((reply) => Number(reply[1]));
    return silences.length > 0 ? Math.max(...silences) : undefined;
  }

  /** The hash of a miner as stored; undefined when it is not in the registry. */
  async get(minerId: string): Promise<MinerHash | undefined> {
    return this.#homes.find(minerId, async (shard) => {
      const hash = await this.#redis.hgetall(keys.miner(shard, minerId));
      return hash.slot === undefined ? undefined : hash;
    });
  }

  /** Commands that wait for a miner, oldest first, at most `limit`. */
  async pendingCommands(minerId: string, limit: number): Promise<PendingCommand[]> {
    const entries = await this.#homes.find(minerId, async (shard) => {
      const waiting = await this.#redis.xrange(keys.commands(shard, minerId), '-', '+', 'COUNT', limit);
      return waiting.length > 0 ? waiting : undefined;
    });
    return (entries ?? []).map(([id, f]) => ({ id, name: f[1] as string, args: JSON.parse(f[3] as string) }));
  }

  /** One page of the registry, shard by shard in slot order. A miner that moves meanwhile may be missed or seen twice. */
  async list(filter: ListFilter, cursor: string | undefined, limit: number): Promise<ListPage> {
    const terms: string[] = [];
    if (filter.state !== undefined) terms.push(LIST_TERMS[filter.state]);
    if (filter.region !== undefined) terms.push(`region:${filter.region.toLowerCase()}`);
    if (filter.capability !== undefined) terms.push(`cap:${filter.capability}`);
    if (filter.tag !== undefined) terms.push(`tag:${filter.tag}`);
    const [startShard, startSlot] = (cursor ?? '0.0').split('.').map(Number) as [number, number];
    const counts = (await this.#homes.onAll('miners/list', [0, 0, ...terms])).map((reply) =>
      Number(reply[1]),
    );
    const ids: [shard: number, id: string][] = [];
    let nextCursor: string | undefined;
    for (let shard = startShard; shard < counts.length && nextCursor === undefined; shard++) {
      if (counts[shard] === 0) continue;
      const from = shard === startShard ? startSlot : 0;
      const reply = await this.#scripts.run('miners/list', shard, [from, limit - ids.length, ...terms]);
      const [next, page] = reply.slice(2) as [number, string[]];
      if (next >= 0) nextCursor = `${shard}.${next}`;
      ids.push(...page.map((id): [number, string] => [shard, id]));
    }
    const total = counts.reduce((sum, count) => sum + count, 0);
    const hashes = await Promise.all(
      ids.map(([shard, id]) => this.#redis.hgetall(keys.miner(shardPrefix(this.#scripts.prefix, shard), id))),
    );
    const miners = hashes.flatMap((hash, i) =>
      hash.slot === undefined ? [] : [{ miner_id: (ids[i] as [number, string])[1], ...hash }],
    );
    return { miners, total, ...(nextCursor === undefined ? {} : { nextCursor }) };
  }

  /** Totals over all shards, and the highest priced bin of the pool (-1: no miner). */
  async stats(): Promise<FleetStats & { highestPriceBin: number }> {
    const replies = await this.#homes.onAll('miners/stats', []);
    const sum = (field: number) => replies.reduce((total, reply) => total + Number(reply[field]), 0);
    const known = sum(10);
    return {
      registered: sum(1),
      online: sum(2),
      degraded: sum(3),
      matchable: sum(4),
      busy: sum(5),
      draining: sum(6),
      full: sum(7),
      reservations: sum(8),
      avgLatencyMs: known > 0 ? sum(9) / known : null,
      reaped: sum(11),
      reaperHeld: sum(12),
      journalEntries: sum(13),
      journalSkipped: sum(15),
      highestPriceBin: Math.max(...replies.map((reply) => Number(reply[14]))),
    };
  }

  async #sendBeats(shard: number, beats: readonly BeatArguments[]): Promise<(ScriptReply | Error)[]> {
    shareWrites(this.#redis);
    const [, ...answers] = await this.#scripts.run('miners/heartbeat', shard, [...beats.flat()]);
    return answers as (ScriptReply | Error)[];
  }

  #run(script: string, minerId: string, args: (string | number)[]): Promise<ScriptReply> {
    return this.#homes.run(script, minerId, args);
  }

  async #leave(
    minerId: string,
    kind: string,
    digest: string,
    reason: string,
  ): Promise<'ok' | 'session_unknown'> {
    const reply = await this.#run('miners/leave', minerId, [kind, digest, reason, this.#channel]);
    return reply[0] === 'ok' ? 'ok' : 'session_unknown';
  }
}
