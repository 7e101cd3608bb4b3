import { type SQL, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { keys } from '../../platform/keys.ts';
import type { RedisClient } from '../../platform/redis.ts';
import type { Scripts } from '../../platform/scripts.ts';
import type { Homes } from '../registry/homes.ts';
import { feedback } from '../trust/tables.ts';
import type { LevelSums } from './levels.ts';
import { slaMetrics, slaMiners } from './tables.ts';

/** A miner as a collection found it. */
export interface Reading {
  readonly miner_id: string;
  /** Unix ms by the clock of Redis; null of a miner that is not in the registry. */
  readonly registered_ms: number | null;
  /** Outages of the hub at that time. */
  readonly registered_outage_ms: number | null;
  /** Online time of all its times in the registry; null when that is forgotten. */
  readonly uptime_ms: number | null;
  /** Null of a miner that is not in the registry. */
  readonly places: number | null;
}

interface LiveReading extends Reading {
  readonly places: number;
  /** Places with a job or a reservation on them. */
  readonly taken: number;
  readonly online: boolean;
}

export interface RegistryPage {
  /** Unix ms by the clock of Redis. */
  readonly nowMs: number;
  /** Outages of the hub so far, as this shard counts them. */
  readonly outageMs: number;
  /** Undefined when there is no more. */
  readonly nextSlot: number | undefined;
  readonly readings: readonly LiveReading[];
}

/** When a page was read, and where it goes. */
export interface Moment {
  readonly nowMs: number;
  readonly outageMs: number;
  readonly windowSec: number;
}

/** Reads one page of a shard's miners, at most 500; `limit` 0 reads the clocks alone. */
export async function readPage(
  scripts: Scripts,
  shard: number,
  fromSlot: number,
  limit: number,
): Promise<RegistryPage> {
  const reply = await scripts.run('sla/page', shard, [fromSlot, limit]);
  const [nowMs, outageMs, nextSlot, miners] = reply.slice(1) as [
    string,
    string,
    number,
    (string | number)[][],
  ];
  return {
    nowMs: Number(nowMs),
    outageMs: Number(outageMs),
    nextSlot: nextSlot < 0 ? undefined : nextSlot,
    readings: miners.map(([id, registered, uptime, places, taken, online, outageThen]) => ({
      miner_id: String(id),
      registered_ms: Number(registered),
      registered_outage_ms: Number(outageThen),
      uptime_ms: Number(uptime),
      places: Number(places),
      taken: Number(taken),
      online: online === 1,
    })),
  };
}

/**
 * Online time of those of these miners that have left the registry; null when it is no longer known. While the number of shards changes,
 * a collection may have passed by one that moved meanwhile: it is there, so it is not among them.
 */
export async function readDeparted(
  redis: RedisClient,
  homes: Homes,
  minerIds: readonly string[],
): Promise<{ miner_id: string; uptime_ms: number | null }[]> {
  const departed = minerIds.map(async (id) => {
    const prefixes = await homes.prefixesOf(id);
    const [uptimes, there] = await Promise.all([
      Promise.all(prefixes.map((prefix) => redis.get(keys.uptime(prefix, id)))),
      Promise.all(prefixes.map((prefix) => redis.exists(keys.miner(prefix, id), keys.moving(prefix, id)))),
    ]);
    if (prefixes.length > 1 && there.some((count) => count > 0)) return [];
    const uptime = uptimes.find((found) => found !== null);
    return [{ miner_id: id, uptime_ms: uptime === undefined ? null : Number(uptime) }];
  });
  return (await Promise.all(departed)).flat();
}

/**
 * Adds what happened since the last collection to the current span of each miner, in one statement: the difference to
 * the row of `sla_miners` that it replaces. When two workers do the same page, the row of a miner changes under the
 * second, which then adds nothing. A counter that is lower than before was lost with Redis and counts from 0.
 */
export async function addReadings(orm: Orm, readings: readonly Reading[], at: Moment): Promise<void> {
  const now = sql`to_timestamp(${at.nowMs}::float8 / 1000)`;
  await orm.execute(sql`
    with r as (
      select * from jsonb_to_recordset(${JSON.stringify(readings)}::jsonb)
        as r(miner_id text, registered_ms float8, registered_outage_ms float8, uptime_ms float8, places int)
    ), known as (
      select r.miner_id, r.registered_ms, coalesce(r.uptime_ms, s.uptime_ms) as uptime_ms,
        coalesce(r.places, s.places) as places, s.collected_at as was_at,
        case when r.registered_ms is null then least(s.live_at, ${now}) else ${now} end as live_at,
        coalesce(s.collected_at, to_timestamp(r.registered_ms / 1000)) as since,
        coalesce(s.uptime_ms, 0) as was_uptime, coalesce(s.outage_ms, r.registered_outage_ms) as was_outage,
        coalesce(s.feedback_seq, ${seqBefore(sql`${now} - make_interval(secs => ${at.windowSec})`)}, 0) as was_seq
      from r left join ${slaMiners} s using (miner_id)
      where s.collected_at is null or ${isBefore(sql`s.collected_at`, now)}
    ), elapsed as (
      select *, greatest(0, extract(epoch from ${now} - since) * 1000) as elapsed_ms,
        case when uptime_ms < was_uptime then uptime_ms else uptime_ms - was_uptime end as credited_ms
      from known
    ), measured as (
      select e.*, least(credited_ms, elapsed_ms) as online_ms, f.*
      from elapsed e cross join lateral (${feedbackSince()}) f
    ), moved as (
      insert into ${slaMiners} as old
        (miner_id, collected_at, previous_at, live_at, uptime_ms, outage_ms, feedback_seq, places)
      select miner_id, ${now}, was_at, live_at, uptime_ms, ${at.outageMs}::float8, seq, places from measured order by miner_id
      on conflict (miner_id) do update set
        collected_at = excluded.collected_at, previous_at = excluded.previous_at, live_at = excluded.live_at,
        uptime_ms = excluded.uptime_ms, outage_ms = excluded.outage_ms, feedback_seq = excluded.feedback_seq,
        places = excluded.places
      where old.collected_at = excluded.previous_at
      returning miner_id
    )
    insert into ${slaMetrics} as old (miner_id, starts_at, span_sec, collected_at, online_ms, expected_ms, completed, failed,
      latency_sum_ms, latency_count)
    select miner_id, ${spanStart(at)}, ${at.windowSec}::int, ${now}, online_ms,
      greatest(online_ms, elapsed_ms - greatest(0, ${at.outageMs}::float8 - was_outage)),
      completed, failed, latency_sum_ms, latency_count
    from measured join moved using (miner_id)
    on conflict (miner_id, starts_at, span_sec) do update set
      collected_at = excluded.collected_at, online_ms = old.online_ms + excluded.online_ms,
      expected_ms = old.expected_ms + excluded.expected_ms, completed = old.completed + excluded.completed,
      failed = old.failed + excluded.failed, latency_sum_ms = old.latency_sum_ms + excluded.latency_sum_ms,
      latency_count = old.latency_count + excluded.latency_count`);
}

/**
 * Whether a miner was collected before a moment. What was collected more than a day after it was so by a clock that has been put back
 * since: else nothing would be measured until that time has come.
 */
export function isBefore(collectedAt: SQL, moment: SQL): SQL {
  return sql`(${collectedAt} < ${moment} or ${collectedAt} > ${moment} + interval '1 day')`;
}

/** Sums of the current span and the one before, by which miners are judged. */
export async function readWindow(
  orm: Orm,
  minerIds: readonly string[],
  at: Moment,
): Promise<(LevelSums & { minerId: string })[]> {
  const rows = await orm.execute<Record<string, string>>(sql`
    select miner_id, sum(online_ms) online_ms, sum(expected_ms) expected_ms, sum(completed) completed, sum(failed) failed,
      sum(latency_sum_ms) latency_sum_ms, sum(latency_count) latency_count,
      sum(places_online) places_online, sum(places_total) places_total
    from ${slaMetrics}
    where miner_id in (select jsonb_array_elements_text(${JSON.stringify(minerIds)}::jsonb))
      and starts_at >= ${spanStart(at)} - make_interval(secs => ${at.windowSec}) and span_sec = ${at.windowSec}
    group by miner_id`);
  return rows.map((row) => ({
    minerId: String(row.miner_id),
    onlineMs: Number(row.online_ms),
    expectedMs: Number(row.expected_ms),
    completed: Number(row.completed),
    failed: Number(row.failed),
    latencySumMs: Number(row.latency_sum_ms),
    latencyCount: Number(row.latency_count),
    placesOnline: Number(row.places_online),
    placesTotal: Number(row.places_total),
  }));
}

/** Start of the span that a moment falls into: a multiple of its length since the epoch. */
export function spanStart({ nowMs, windowSec }: Moment): SQL {
  const startSec = Math.floor(nowMs / 1000 / windowSec) * windowSec;
  return sql`to_timestamp(${startSec}::float8)`;
}

/** The newest feedback of a miner that is too old for the window in which it was first seen. */
function seqBefore(before: SQL): SQL {
  return sql`(select max(seq) from ${feedback} f where f.miner_id = r.miner_id and f.created_at < ${before})`;
}

function feedbackSince(): SQL {
  return sql`
    select count(*) filter (where outcome = 'completed') as completed, count(*) filter (where outcome = 'failed') as failed,
      coalesce(sum(latency_ms) filter (where outcome = 'completed'), 0) as latency_sum_ms,
      count(latency_ms) filter (where outcome = 'completed') as latency_count, coalesce(max(seq), e.was_seq) as seq
    from ${feedback} where ${feedback}.miner_id = e.miner_id and seq > e.was_seq`;
}
