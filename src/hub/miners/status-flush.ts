import { sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import { keys, shardPrefix } from '../../platform/keys.ts';
import type { RedisClient } from '../../platform/redis.ts';
import { minerStatus, miners } from './tables.ts';

export interface FlushDeps {
  readonly redis: RedisClient;
  readonly prefix: string;
  readonly db: Database;
}

/** Live readings of one miner, as they go to Postgres. */
interface StatusRow {
  miner_id: string;
  queue_len: number;
  busy: boolean;
  avg_latency_ms: number | null;
  temp_c: number | null;
  mem_free_gb: number | null;
  seen_ms: number;
}

const FIELDS = ['last_seen_ms', 'queue_len', 'busy', 'self_latency_ms', 'temp_c', 'mem_free_gb'] as const;

/**
 * Writes the status of the miners of a shard that beat since the last flush, `batch` at a time. Ids leave the
 * set of changed miners before they are written: when the write fails they are put back, and when this
 * process dies in between, the next heartbeat of the miner puts it back, so a snapshot is late but never
 * wrong.
 * @param budgetMs no new batch is begun after this long
 * @returns how many miners were written
 */
export async function flushStatus(
  deps: FlushDeps,
  shard: number,
  batch: number,
  budgetMs: number,
): Promise<number> {
  const prefix = shardPrefix(deps.prefix, shard);
  const deadline = performance.now() + budgetMs;
  let written = 0;
  while (performance.now() < deadline) {
    const ids = await deps.redis.spop(keys.changed(prefix), batch);
    if (ids.length === 0) break;
    try {
      const rows = await readStatus(deps.redis, prefix, ids);
      if (rows.length > 0) await deps.db.run((orm) => saveStatus(orm, rows));
      written += rows.length;
    } catch (error) {
      await deps.redis.sadd(keys.changed(prefix), ...ids);
      throw error;
    }
    if (ids.length < batch) break;
  }
  return written;
}

async function readStatus(redis: RedisClient, prefix: string, ids: readonly string[]): Promise<StatusRow[]> {
  const pipeline = redis.pipeline();
  for (const id of ids) pipeline.hmget(keys.miner(prefix, id), ...FIELDS);
  const replies = (await pipeline.exec()) ?? [];
  return ids.flatMap((id, i) => {
    const [error, values] = replies[i] as [Error | null, (string | null)[]];
    if (error) throw error;
    // It left the registry meanwhile.
    return values[0] ? [statusRow(id, values)] : [];
  });
}

function statusRow(miner_id: string, values: readonly (string | null)[]): StatusRow {
  const [seen, queueLen, busy, latency, temp, memFree] = values;
  return {
    miner_id,
    seen_ms: Number(seen),
    queue_len: Number(queueLen || 0),
    busy: busy === '1',
    avg_latency_ms: numberOrNull(latency),
    temp_c: numberOrNull(temp),
    mem_free_gb: numberOrNull(memFree),
  };
}

function numberOrNull(text: string | null | undefined): number | null {
  return text === undefined || text === null || text === '' ? null : Number(text);
}

/**
 * One statement for both tables; rows are locked in one order, so that two writers of many never wait for
 * each other in a ring.
 */
async function saveStatus(orm: Orm, rows: readonly StatusRow[]): Promise<void> {
  await orm.execute(sql`
    with s as (
      select * from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as readings(
        miner_id text, queue_len int, busy bool, avg_latency_ms float8, temp_c float8, mem_free_gb float8, seen_ms int8
      )
    ), known as (
      select miner_id from ${miners} where miner_id in (select miner_id from s) order by miner_id for no key update
    ), seen as (
      update ${miners} as m set last_seen_at = greatest(m.last_seen_at, to_timestamp(s.seen_ms / 1000.0))
      from s join known using (miner_id) where m.miner_id = s.miner_id
      returning m.miner_id
    )
    insert into ${minerStatus} as old
      (miner_id, queue_len, busy, avg_latency_ms, temp_c, mem_free_gb, updated_at)
    select miner_id, s.queue_len, s.busy, s.avg_latency_ms, s.temp_c, s.mem_free_gb, to_timestamp(s.seen_ms / 1000.0)
    from s join seen using (miner_id)
    on conflict (miner_id) do update set
      queue_len = excluded.queue_len, busy = excluded.busy, avg_latency_ms = excluded.avg_latency_ms,
      temp_c = excluded.temp_c, mem_free_gb = excluded.mem_free_gb, updated_at = excluded.updated_at
    where old.updated_at <= excluded.updated_at`);
}
