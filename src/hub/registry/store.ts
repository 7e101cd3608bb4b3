import { shardPrefix } from '../../platform/keys.ts';
import type { RedisClient } from '../../platform/redis.ts';
import { callToken, type Scripts } from '../../platform/scripts.ts';
import type { MinerHash } from '../miners/types.ts';

/** Whether a script only says what is wrong, or mends it too. */
export type Mode = 'look' | 'mend';

/** Entries that must not outlive their miner, by the key that holds them. */
export type EntryKind =
  | 'leases'
  | 'overrides'
  | 'changed'
  | 'commands'
  | 'miner'
  | 'records'
  | 'prices'
  | 'etas'
  | 'uptime'
  | 'tmp';

/** A miner at a slot ('' for none), and the terms whose bits are asked for. */
export interface ProbeAsk {
  readonly minerId: string;
  readonly slot: string;
  readonly terms: readonly string[];
}

/** What the registry keeps of a miner and a slot, all as of one instant; '' where there is nothing. */
export interface Probed {
  readonly nowMs: number;
  readonly hash: MinerHash;
  /** The miner that the slot's record names. */
  readonly holder: string;
  readonly recordSha1: string;
  readonly price: string;
  readonly eta: string;
  readonly lease: string;
  readonly override: string;
  /** '0' or '1' for each term asked for. */
  readonly bits: string;
}

export interface TermCount {
  readonly counted: number;
  readonly bits: number;
  readonly hasBitmap: boolean;
}

type ProbeReply = [string[], string, string, string, string, string, string, string];

/** How much goes into one call, so that it takes a few milliseconds at most, a million miners in the shard or not. */
export const PER_CALL = {
  probe: 16,
  reindex: 8,
  clear: 64,
  recount: 32,
  /** Looking for a slot in a free list of 100,000 takes one to three milliseconds. */
  slots: 1,
  entries: 100,
  adjust: 1,
  reservations: 1,
} as const;

/** Typed callers of the scripts that verify and rebuild the registry. They throw what Redis throws. */
export class RegistryStore {
  readonly redis: RedisClient;
  readonly prefix: string;
  readonly #scripts: Scripts;

  constructor(scripts: Scripts, redis: RedisClient) {
    this.#scripts = scripts;
    this.redis = redis;
    this.prefix = scripts.prefix;
  }

  /** The name of a key of a shard. */
  key(shard: number, name: string): string {
    return shardPrefix(this.prefix, shard) + name;
  }

  async probe(shard: number, asks: readonly ProbeAsk[]): Promise<Probed[]> {
    const groups = asks.flatMap(({ minerId, slot, terms }) => [minerId, slot, terms.length, ...terms]);
    const reply = await this.#scripts.run('registry/probe', shard, [...groups]);
    const nowMs = Number(reply[1]);
    return (reply[2] as ProbeReply[]).map(
      ([flat, holder, recordSha1, price, eta, lease, override, bits]) => ({
        nowMs,
        hash: hashOf(flat),
        holder,
        recordSha1,
        price,
        eta,
        lease,
        override,
        bits,
      }),
    );
  }

  /** Writes anew all that follows from the hashes of these miners. */
  async reindex(shard: number, minerIds: readonly string[]): Promise<void> {
    await this.#scripts.run('registry/reindex', shard, [...minerIds]);
  }

  /** Clears bits, given as term and slot, that no miner stands for. */
  async clear(shard: number, pairs: readonly (readonly [term: string, slot: number])[]): Promise<void> {
    await this.#scripts.run('registry/clear', shard, [...pairs.flat()]);
  }

  /** The counts and bits of terms, as they were before any mending. */
  async recount(shard: number, mode: Mode, terms: readonly string[]): Promise<TermCount[]> {
    const [, ...found] = await this.#scripts.run('registry/recount', shard, [mode, ...terms]);
    return (found as [number, number, number][]).map(([counted, bits, there]) => ({
      counted,
      bits,
      hasBitmap: there === 1,
    }));
  }

  /** A verdict for each slot: 'ok', or what is wrong with it. */
  async slots(shard: number, mode: Mode, slots: readonly number[]): Promise<string[]> {
    const [, ...verdicts] = await this.#scripts.run('registry/slots', shard, [mode, ...slots]);
    return verdicts as string[];
  }

  /** Those members that nobody stands for. */
  async strayEntries(
    shard: number,
    mode: Mode,
    kind: EntryKind,
    members: readonly string[],
  ): Promise<string[]> {
    const [, ...stray] = await this.#scripts.run('registry/entries', shard, [mode, kind, ...members]);
    return members.filter((_, i) => stray[i] === 1);
  }

  /** Adds a correction to a field of a hash of counts. */
  async adjust(shard: number, hash: string, field: string, amount: number): Promise<void> {
    await this.#scripts.run('registry/adjust', shard, [hash, field, amount, callToken()]);
  }

  /**
   * How many of the reservations hold a place of the miner; undefined when it is not in the registry, or has other places reserved than
   * the `reserved` that the caller saw.
   */
  async heldPlaces(
    shard: number,
    mode: Mode,
    minerId: string,
    reserved: number,
    ids: readonly string[],
  ): Promise<number | undefined> {
    const reply = await this.#scripts.run('registry/reservations', shard, [mode, minerId, reserved, ...ids]);
    return reply[0] === 'ok' ? (reply[1] as number) : undefined;
  }
}

function hashOf(flat: readonly string[]): MinerHash {
  const hash: MinerHash = {};
  for (let i = 0; i < flat.length; i += 2) hash[flat[i] as string] = flat[i + 1] as string;
  return hash;
}
