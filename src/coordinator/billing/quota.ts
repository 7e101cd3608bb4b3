/** Monthly limits of plans, counted exactly: what is over a limit is refused, however many records come at once. */
import { type Placeholder, type SQL, sql } from 'drizzle-orm';
import { AppError } from '../../platform/errors.ts';
import { planLimits, quotaUse, tenants, usageRecords } from './tables.ts';

/** A use that is to be counted. */
export interface CountedUse {
  readonly tenantId: string;
  readonly resourceType: string;
  /** Decimal string. */
  readonly quantity: string;
  readonly usedAt: Date;
}

/** Nobody waits for a month: the plan may be raised meanwhile. */
const RETRY_MAX_SEC = 3600;

/** The limit that holds for a use: one row `monthly_limit`, or none. */
export function limitOf({ tenantId, resourceType }: CountedUse): SQL {
  return sql`select l.monthly_limit from ${tenants} t join ${planLimits} l on l.plan = t.plan
    where t.tenant_id = ${tenantId} and l.resource_type = ${resourceType}`;
}

/**
 * Counts a use against the rows of `limits`, a relation with a column `monthly_limit` that has no row where nothing is limited. The first
 * use of a month, or after a change of plan, finds no count and begins one from the records.
 * @param enforced whether a use past the limit is not counted; such a statement returns no row
 */
export function countUse(use: CountedUse, limits: SQL, enforced: boolean): SQL {
  const { tenantId, resourceType, quantity, usedAt } = use;
  const month = monthOf(usedAt);
  const before = sql`case when exists (select from ${quotaUse} where tenant_id = ${tenantId}
      and resource_type = ${resourceType} and month = ${month}::date)
    then 0 else ${usedIn(sql`${tenantId}::text`, sql`${resourceType}::text`, month)} end`;
  const within = (used: SQL) =>
    enforced
      ? sql`where ${used} + ${quantity}::numeric <= (select monthly_limit from ${limits} limits)`
      : sql``;
  return sql`insert into ${quotaUse} as counter (tenant_id, resource_type, month, used)
    select ${tenantId}, ${resourceType}, ${month}::date, before.used + ${quantity}::numeric
    from ${limits} limits, lateral (select ${before} as used) before
    ${within(sql`before.used`)}
    on conflict (tenant_id, resource_type, month) do update set used = counter.used + ${quantity}::numeric
    ${within(sql`counter.used`)}
    returning used`;
}

/**
 * The first resource of which a tenant has used up what its plan gives in a month: one row `resource_type`, or none. Work that is under way is not
 * counted until it ends.
 * @param month as monthOf
 */
export function spentResource(tenantId: SQL, month: string | Placeholder): SQL {
  return sql`select l.resource_type from ${tenants} t join ${planLimits} l on l.plan = t.plan
    left join ${quotaUse} q on q.tenant_id = t.tenant_id and q.resource_type = l.resource_type and q.month = ${month}::date
    where t.tenant_id = ${tenantId}
      and coalesce(q.used, ${usedIn(sql`t.tenant_id`, sql`l.resource_type`, month)}) >= l.monthly_limit
    order by l.resource_type limit 1`;
}

/** The refusal of a tenant that is past its plan. */
export function quotaExceeded(resourceType: string, now = new Date()): AppError {
  const nextMonthMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1);
  return new AppError('quota_exceeded', `the plan of this tenant gives no more ${resourceType} this month`, {
    retry_after_sec: Math.min(RETRY_MAX_SEC, Math.ceil((nextMonthMs - now.getTime()) / 1000)),
  });
}

/** The month of a moment, UTC, as the date of its first day. */
export function monthOf(at: Date): string {
  return `${at.toISOString().slice(0, 7)}-01`;
}

/** Sum of the records of a tenant and resource in a month. */
export function usedIn(tenantId: SQL, resourceType: SQL, month: string | Placeholder): SQL {
  return sql`coalesce((select sum(u.quantity) from ${usageRecords} u
    where u.tenant_id = ${tenantId} and u.resource_type = ${resourceType}
      and u.used_at >= ${month}::date::timestamp at time zone 'UTC'
      and u.used_at < (${month}::date + interval '1 month') at time zone 'UTC'), 0)`;
}
