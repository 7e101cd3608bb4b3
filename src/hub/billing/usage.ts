/** Usage records that follow from feedback. */
import { type SQL, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { miners } from '../miners/tables.ts';
import { feedback } from '../trust/tables.ts';
import type { Outcome } from '../trust/trust.ts';
import { type PriceSettings, priceOf } from './prices.ts';
import { usageRecords } from './tables.ts';

interface UsedBy {
  readonly jobId: string;
  readonly outcome: Outcome;
  readonly latencyMs: number | null;
  readonly atMs: number;
}

const MS_PER_HOUR = 3_600_000;

/**
 * The records of one feedback, as the last part of the statement that stores it, so that a replay never makes a second
 * one: an accepted job is one call to the API; a completed job gives hours of compute, and of GPU for each GPU of its
 * miner, if it says how long it took. What rounds to nothing at the eighth decimal is no record.
 *
 * A miner whose first profile has not reached Postgres has no tenant and no GPUs yet: see `completeRecords`.
 * @param stored a relation of that statement with the `id` of the feedback it has stored
 * @param miner another with the miner's `miner_id`, `tenant_id`, `gpu_count` and `addr`
 */
export function usageOf(row: UsedBy, prices: PriceSettings, stored: SQL, miner: SQL): SQL {
  const at = new Date(row.atMs).toISOString();
  const isCompleted = row.outcome === 'completed' && row.latencyMs !== null;
  // As text, a number is read by Postgres as the decimal that it was written as.
  const latency = sql`${isCompleted ? String(row.latencyMs) : '0'}::numeric`;
  const calls = row.outcome === 'accepted' ? '1' : '0';
  return sql`insert into ${usageRecords} (feedback_id, tenant_id, miner_id, job_id, resource_type, quantity, unit_price,
      total_amount, metadata, used_at)
    select stored.id, case when m.addr is not null then ${tenantOf(sql`m`)} end, m.miner_id, ${row.jobId},
      used.resource, used.quantity, used.price, round(used.quantity * used.price, 8),
      jsonb_build_object('miner_id', m.miner_id), ${at}::timestamptz
    from ${stored} as stored cross join ${miner} as m cross join lateral (values
      ('compute_hours', ${hours(latency)}, ${priceOf(prices, 'compute_hours')}::numeric),
      ('gpu_hours', ${gpuHours(latency, sql`m`)}, ${priceOf(prices, 'gpu_hours')}::numeric),
      ('api_calls', ${calls}::numeric, ${priceOf(prices, 'api_calls')}::numeric)
    ) as used (resource, quantity, price)
    where used.quantity > 0`;
}

/**
 * Gives records their tenants, and hours of GPU, once the profiles of their miners are there. At most `limit` at a time.
 * @returns how many
 */
export async function completeRecords(orm: Orm, prices: PriceSettings, limit: number): Promise<number> {
  const price = sql`${priceOf(prices, 'gpu_hours')}::numeric`;
  const rows = await orm.execute<{ completed: string }>(sql`
    with named as (
      update ${usageRecords} u set tenant_id = ${tenantOf(sql`m`)}
      from ${miners} m
      where m.miner_id = u.miner_id and u.tenant_id is null and u.id in (
        select w.id from ${usageRecords} w join ${miners} p using (miner_id)
        where w.tenant_id is null and p.addr is not null
        order by w.miner_id limit ${limit} for update of w skip locked
      )
      returning u.*, m.gpu_count
    ), added as (
      insert into ${usageRecords} (feedback_id, tenant_id, miner_id, job_id, resource_type, quantity, unit_price,
        total_amount, metadata, used_at, due_at)
      select n.feedback_id, n.tenant_id, n.miner_id, n.job_id, 'gpu_hours', g.hours, ${price},
        round(g.hours * ${price}, 8), n.metadata, n.used_at, n.due_at
      from named n join ${feedback} f on f.id = n.feedback_id
        cross join lateral (select ${gpuHours(sql`f.latency_ms::text::numeric`, sql`n`)} as hours) g
      where n.resource_type = 'compute_hours' and g.hours > 0
    )
    select count(*) as completed from named`);
  return Number(rows[0]?.completed ?? 0);
}

function tenantOf(miner: SQL): SQL {
  return sql`coalesce(nullif(${miner}.tenant_id, ''), ${miner}.miner_id)`;
}

function hours(latencyMs: SQL): SQL {
  return sql`round(${latencyMs} / ${MS_PER_HOUR}::numeric, 8)`;
}

function gpuHours(latencyMs: SQL, miner: SQL): SQL {
  return sql`round(${latencyMs} * coalesce(${miner}.gpu_count, 0) / ${MS_PER_HOUR}::numeric, 8)`;
}
