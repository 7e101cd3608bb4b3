import { sql } from 'drizzle-orm';
import * as v from 'valibot';
import type { Orm } from '../../platform/db.ts';
import { miners } from './tables.ts';

/** What an entry may change in the row of a miner, under the names of the columns; absent is unchanged. */
interface Columns {
  addr?: string;
  proto?: string;
  gpu_vram_gb?: number | null;
  gpu_name?: string;
  gpu_count?: number;
  cpu_cores?: number | null;
  ram_gb?: number | null;
  max_parallel?: number;
  base_price?: string;
  tags?: string[];
  capabilities?: string[];
  accel?: string[];
  region?: string;
  tenant_id?: string | null;
  wallet_address?: string | null;
}

/** One journal entry about a miner: its whole profile, a change of it, or that it left the registry. */
export interface MinerEntry {
  readonly minerId: string;
  /** Milliseconds by the clock of Redis, ahead of it after it stepped back. An entry older than the row's version changes nothing. */
  readonly version: number;
  readonly kind: 'profile' | 'change' | 'removed';
  readonly columns: Columns;
}

/**
 * What is left of a profile's miner for the registry to be told: its key may have been taken away meanwhile.
 */
export interface SavedProfile {
  readonly minerId: string;
  readonly apiKeyHash: string | null;
}

const unknownOr = v.pipe(
  v.union([v.number(), v.literal('')]),
  v.transform((value) => (value === '' ? null : value)),
);
const emptyIsNull = v.pipe(
  v.string(),
  v.transform((value) => (value === '' ? null : value)),
);
const names = v.array(v.string());
const namesAsJson = v.pipe(v.string(), v.parseJson(), names);

const profileEntry = v.object({
  miner_id: v.string(),
  addr: v.string(),
  proto: v.string(),
  gpu_vram_gb: unknownOr,
  gpu_name: v.string(),
  gpu_count: v.number(),
  cpu_cores: unknownOr,
  ram_gb: unknownOr,
  max_parallel: v.number(),
  base_price: v.string(),
  tags: names,
  capabilities: names,
  accel: names,
  region: v.string(),
  tenant_id: emptyIsNull,
  wallet_address: emptyIsNull,
});

/** Changes are fields of the miner's hash: text, with lists as JSON. */
const changeEntry = v.object({
  miner_id: v.string(),
  changes: v.object({
    max_parallel: v.optional(v.pipe(v.string(), v.transform(Number), v.integer())),
    base_price: v.optional(v.string()),
    tags: v.optional(namesAsJson),
    capabilities: v.optional(namesAsJson),
    accel: v.optional(namesAsJson),
    region: v.optional(v.string()),
  }),
});

const removedEntry = v.object({ miner_id: v.string(), at_ms: v.number() });

const versionOf = (version: number | null): number => v.parse(v.pipe(v.number(), v.safeInteger()), version);

/** Reads a journal entry of type `profile`, `profile_change` or `removed`. Throws when it is malformed. */
export function parseMinerEntry(entry: { type: string; version: number | null; data: string }): MinerEntry {
  const data: unknown = JSON.parse(entry.data);
  if (entry.type === 'profile') {
    const { miner_id, ...columns } = v.parse(profileEntry, data);
    return { minerId: miner_id, version: versionOf(entry.version), kind: 'profile', columns };
  }
  if (entry.type === 'profile_change') {
    const { miner_id, changes } = v.parse(changeEntry, data);
    const given = Object.entries(changes).filter(([, value]) => value !== undefined);
    const columns = Object.fromEntries(given) as Columns;
    return { minerId: miner_id, version: versionOf(entry.version), kind: 'change', columns };
  }
  const { miner_id, at_ms } = v.parse(removedEntry, data);
  return { minerId: miner_id, version: versionOf(at_ms), kind: 'removed', columns: {} };
}

/**
 * Writes entries about miners, oldest first, in one statement. Idempotent: an entry older than its row
 * changes nothing.
 * @returns the ids that are in no row (nobody enrolled them), and the miners whose whole profile was among the entries
 */
export async function saveMinerEntries(
  orm: Orm,
  entries: readonly MinerEntry[],
): Promise<{ unknown: ReadonlySet<string>; profiles: SavedProfile[] }> {
  const folded = foldEntries(entries);
  const rows = await orm.execute<{ miner_id: string; api_key_hash: string | null }>(
    saveStatement(JSON.stringify([...folded.values()])),
  );
  const known = new Set(rows.map((row) => row.miner_id));
  return {
    unknown: new Set([...folded.keys()].filter((id) => !known.has(id))),
    profiles: rows
      .filter((row) => folded.get(row.miner_id)?.whole === true)
      .map((row) => ({ minerId: row.miner_id, apiKeyHash: row.api_key_hash })),
  };
}

interface FoldedEntry extends Columns {
  miner_id: string;
  version: number;
  /** The columns come from a whole profile: those that are null are unknown, not unchanged. */
  whole: boolean;
  /** Whether the newest entry says that the miner left, or is back; null when none says either. */
  removed: boolean | null;
}

/** Several entries of a miner become one: a profile replaces what was before, a change is laid over it. */
function foldEntries(entries: readonly MinerEntry[]): Map<string, FoldedEntry> {
  const folded = new Map<string, FoldedEntry>();
  for (const { minerId, version, kind, columns } of entries) {
    const before = folded.get(minerId);
    folded.set(minerId, {
      ...(kind === 'profile' ? {} : before),
      ...columns,
      miner_id: minerId,
      version: Math.max(version, before?.version ?? 0),
      whole: kind === 'profile' || before?.whole === true,
      removed: kind === 'change' ? (before?.removed ?? null) : kind === 'removed',
    });
  }
  return folded;
}

/** Columns that a change can carry, and those that only come with a whole profile. */
const CHANGING = {
  max_parallel: 'int',
  base_price: 'numeric',
  tags: 'jsonb',
  capabilities: 'jsonb',
  accel: 'jsonb',
  region: 'text',
};
const WHOLE = {
  addr: 'text',
  proto: 'text',
  gpu_vram_gb: 'float8',
  gpu_name: 'text',
  gpu_count: 'int',
  cpu_cores: 'int',
  ram_gb: 'float8',
  tenant_id: 'text',
  wallet_address: 'text',
};

/**
 * Answers with the rows that exist. They are locked in one order, so that two writers of many rows never wait
 * for each other in a ring.
 */
function saveStatement(json: string) {
  const types = { ...CHANGING, ...WHOLE };
  const declared = Object.entries(types).map(([name, type]) => sql.raw(`${name} ${type}`));
  const sets = [
    ...Object.keys(CHANGING).map((name) => sql.raw(`${name} = coalesce(e.${name}, m.${name})`)),
    ...Object.keys(WHOLE).map((name) =>
      sql.raw(`${name} = case when e.whole then e.${name} else m.${name} end`),
    ),
  ];
  return sql`
    with e as (
      select *, least(now(), to_timestamp(version / 1000.0)) as seen_at from jsonb_to_recordset(${json}::jsonb) as entries(
        miner_id text, version int8, whole bool, removed bool, ${sql.join(declared, sql`, `)}
      )
    ), known as (
      select miner_id, api_key_hash from ${miners} where miner_id in (select miner_id from e)
      order by miner_id for no key update
    ), saved as (
      update ${miners} as m set
        ${sql.join(sets, sql`, `)},
        profile_version = e.version,
        last_seen_at = greatest(m.last_seen_at, e.seen_at),
        removed_at = case
          when e.removed then e.seen_at
          when e.removed = false then null
          else m.removed_at
        end
      from e join known using (miner_id)
      where m.miner_id = e.miner_id and m.profile_version <= e.version
    )
    select miner_id, api_key_hash from known`;
}
