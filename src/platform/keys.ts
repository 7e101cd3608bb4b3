/**
 * The Redis schema: every key name is built here, and nowhere else.
 *
 * All live state of a miner sits in one shard, and a shard is one hash tag, so a script touches one cluster
 * slot. A script receives the shard's prefix (`ph:{0}:`) as its key and derives the rest from it.
 *
 * | key after `ph:{s}:` | type | holds |
 * |---|---|---|
 * | `miner:<id>` | hash | the miner as a person reads it: profile, status, lease, session digest, slot, index bins |
 * | `records` | hash slot -> packed record | the numbers exact scoring needs, and what a match answers (`lua/include/record.lua`) |
 * | `slots:free`, `slots:next` | list, counter | dense slot numbers, reused after removal; `slots:holes` while they are made dense again |
 * | `leases` | zset id -> ms | next step of the lease: end (then degraded), end of grace (then removed) |
 * | `prices`, `etas` | zset slot -> value | settle the one bin that a limit cuts through |
 * | `terms` | hash term -> count | how many miners carry each index term; a term at zero is gone |
 * | `count:<family>` | hash number -> count | the same for numbered terms: `count:price` 61 counts the term `price:61` |
 * | `ix:<term>` | string (bitmap) | bit `slot` is set when the miner has the term |
 * | `latency:<region>` | hash bucket -> count | histogram of effective latency of the online miners of a region |
 * | `reservations` | zset id -> expiry ms | claimed places; `reservation:<id>` is the hash of one |
 * | `job:<job_id>` | hash, expires | the places planned for a job, so that a repeated request gets them again |
 * | `overrides` | zset id -> ms | price overrides that end by themselves |
 * | `commands:<id>` | stream | commands waiting for a miner, until acknowledged |
 * | `changed` | set of ids | miners whose status is newer than Postgres knows |
 * | `uptime:<id>` | string | online ms of a miner's earlier times in the registry; expires two days after the last |
 * | `once:<token>` | string | the answer of a call that may not happen twice; expires after a minute |
 * | `layout` | JSON | the shards as this one knows them; that of shard 0 has the first word (`src/hub/registry/layout.ts`) |
 * | `moving:<id>` | hash, rare | a miner on its way to another shard: `token`, `until_ms` of its mover, `state` (JSON, all that it is) |
 * | `moved:<id>` | string, expires | the layout in which a miner was taken out of the shard that it came from, so that it does not come twice |
 * | `rebalance` | string, expires | shard 0 only: somebody is changing the number of shards |
 * | `inherited` | hash | shard 0 only: the last that it took over from each shard that is gone |
 * | `stats` | hash | counters and clocks of the shard: latency sums, reaper window, hub last seen, newest version of a profile |
 * | `journal` | stream | durable effects waiting to reach Postgres; `journal:dead` holds what never could |
 * | `tmp:<n>` | string | bitmaps of the running script; deleted before it ends, never replicated |
 */

/** Key prefix of one shard; the braces are the cluster hash tag. */
export function shardPrefix(prefix: string, shard: number): string {
  return `${prefix}:{${shard}}:`;
}

/**
 * The two keys that every script call names: the shard's prefix, and another name. Neither ever exists. A cluster that moves a slot
 * answers a call with one missing key by sending it to the new node, where half of the shard is not there yet; a call with two by
 * TRYAGAIN, until the slot has moved.
 */
export function scriptKeys(prefix: string, shard: number): [prefix: string, whole: string] {
  const start = shardPrefix(prefix, shard);
  return [start, `${start}whole`];
}

/** Pub/sub channel that tells every replica of new commands and replaced sessions. */
export function controlChannel(prefix: string): string {
  return `${prefix}:control`;
}

/** Pub/sub channel of the alerts that watchers of /v1/events hear. */
export function eventsChannel(prefix: string): string {
  return `${prefix}:events`;
}

/** Prefix of the counters of the rate limits, `<class>:<client>` follows; they expire by themselves and belong to no shard. */
export function limiterPrefix(prefix: string): string {
  return `${prefix}:limit`;
}

/** Digest of the strategies that the stored steps follow from; one for all shards. With `:rebuild`, somebody is bringing the steps to others. */
export function strategiesKey(prefix: string): string {
  return `${prefix}:strategies`;
}

/** Builders for the keys that TypeScript touches directly; scripts build theirs from the shard prefix. */
export const keys = {
  miner: (shard: string, minerId: string) => `${shard}miner:${minerId}`,
  journal: (shard: string) => `${shard}journal`,
  journalDead: (shard: string) => `${shard}journal:dead`,
  changed: (shard: string) => `${shard}changed`,
  commands: (shard: string, minerId: string) => `${shard}commands:${minerId}`,
  uptime: (shard: string, minerId: string) => `${shard}uptime:${minerId}`,
  reservation: (shard: string, reservationId: string) => `${shard}reservation:${reservationId}`,
  moving: (shard: string, minerId: string) => `${shard}moving:${minerId}`,
  stats: (shard: string) => `${shard}stats`,
  rebalance: (shard: string) => `${shard}rebalance`,
} as const;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

/** CRC-32 (IEEE 802.3, reflected) of the UTF-8 bytes. Node 20.20 has zlib.crc32, but 20.6 does not. */
function crc32(text: string): number {
  let c = 0xffffffff;
  for (const byte of Buffer.from(text, 'utf8')) c = (CRC_TABLE[(c ^ byte) & 0xff] as number) ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** Shard of a miner or a job: crc32(id) mod shards. */
export function shardOf(id: string, shards: number): number {
  return shards === 1 ? 0 : crc32(id) % shards;
}

/** A name for something that lives where the miner lives, whatever the number of shards: `<crc32 of the miner's id>.<rest>`. */
export function nameBeside(minerId: string, rest: string): string {
  return `${crc32(minerId)}.${rest}`;
}

/** Shard of what `nameBeside` named; undefined for a text that it never made. */
export function shardBeside(name: string, shards: number): number | undefined {
  const crc = Number(/^(\d{1,10})\./.exec(name)?.[1] ?? Number.NaN);
  return crc <= 0xffffffff ? crc % shards : undefined;
}
