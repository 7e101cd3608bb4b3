import { type SQL, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { usageRecords } from './tables.ts';

interface Sums {
  readonly quantity: string;
  readonly cost: string;
  readonly records: number;
}

/** Use of a period in one currency. Decimals are strings. */
export interface BillingMetrics {
  readonly totals: Sums & { readonly active_tenants: number };
  readonly by_resource: ReadonlyArray<Sums & { readonly resource_type: string }>;
  readonly top_tenants: ReadonlyArray<Sums & { readonly tenant_id: string }>;
  readonly daily_trend: ReadonlyArray<Sums & { readonly date: string }>;
}

const TOP_TENANTS = 10;

/** Sums the records of `[start, end)`, of one tenant or of all. One statement, so that all sums are of the same moment. */
export async function billingMetrics(
  orm: Orm,
  start: Date,
  end: Date,
  currency: string,
  tenantId: string | undefined,
): Promise<BillingMetrics> {
  const ofTenant = tenantId === undefined ? sql`` : sql`and tenant_id = ${tenantId}`;
  const [row] = await orm.execute<{ metrics: BillingMetrics }>(sql`
    with cells as materialized (
      select tenant_id, resource_type, (used_at at time zone 'UTC')::date as day,
        sum(quantity) as quantity, sum(total_amount) as cost, count(*) as records
      from ${usageRecords}
      where used_at >= ${start.toISOString()}::timestamptz and used_at < ${end.toISOString()}::timestamptz
        and currency = ${currency} ${ofTenant}
      group by 1, 2, 3
    )
    select jsonb_build_object(
      'totals', (select ${sums(sql`'active_tenants', count(distinct tenant_id)`)} from cells),
      'by_resource', ${list(sql`resource_type`, sql`'resource_type', resource_type`, sql`resource_type`)},
      'top_tenants', ${list(
        sql`tenant_id`,
        sql`'tenant_id', tenant_id`,
        sql`sum(cost) desc, tenant_id`,
        sql`limit ${TOP_TENANTS}`,
      )},
      'daily_trend', ${list(sql`day`, sql`'date', to_char(day, 'YYYY-MM-DD')`, sql`day`)}
    ) as metrics`);
  if (row === undefined) throw new TypeError('an aggregate without a row');
  return row.metrics;
}

/** The sums of a group of cells; decimals as text, because JSON numbers would become doubles. */
function sums(more: SQL): SQL {
  return sql`jsonb_build_object(${more},
    'quantity', trim_scale(coalesce(sum(quantity), 0))::text,
    'cost', trim_scale(coalesce(sum(cost), 0))::text,
    'records', coalesce(sum(records), 0)::int8)`;
}

/** One object for each group, in order. */
function list(by: SQL, name: SQL, order: SQL, limit: SQL = sql``): SQL {
  return sql`(select coalesce(jsonb_agg(item order by place), '[]'::jsonb) from (
    select ${sums(name)} as item, row_number() over (order by ${order}) as place from cells group by ${by} ${sql`order by ${order}`} ${limit}) items)`;
}
