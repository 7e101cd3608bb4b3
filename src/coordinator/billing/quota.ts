/** Monthly limits of plans, counted exactly: what is over a limit is refused, however many records come at once. */
import { type Placeholder, type SQL, sql } from 'drizzle-orm';
import { AppError } from '../../platform/errors.ts';
import { jobs } from '../jobs/tables.ts';
import { planLimits, quotaUse, tenants, usageRecords } from './tables.ts';
import { JOBS_RESOURCE } from './usage-record.ts';

/** A use that is to be counted. */
export interface CountedUse {
  readonly tenantId: string;
  readonly resourceType: string;
  /** Decimal string. */
  readonly quantity: string;
  readonly usedAt: Date;
}

/** Farther from a limit than any number of statements that Postgres has under way at a time, none of them can pass it. */
const CLOSE = sql.raw('1000');

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
 * Whether a tenant may submit a job, as expressions of a `with`: `spent`, the first resource of which its plan gives no more this month, and
 * `must_wait`, a row when another submission of the tenant was under way; else the job may be stored if `spent` is empty. Jobs under way
 * count as if they completed. Those that a statement does not see yet it cannot count: so close to the limit, submissions of a tenant take turns, each of
 * which writes the row of its count, and one that did not see it as it is now must look again.
 * @param month as monthOf
 */
export function jobQuota(tenantId: SQL, month: Placeholder): SQL {
  const isOfJobs = sql.raw(`resource_type = '${JOBS_RESOURCE}'`);
  // State by state: even a plan that was made on an empty table goes by an index on states then, and reads no finished job.
  const underWay = sql`(select sum(c.n) from (values ('QUEUED'), ('RUNNING')) s (state),
    lateral (select count(*) as n from ${jobs} j where j.client_id = t.tenant_id and j.state = s.state) c)`;
  return sql`quota as materialized (
      select l.resource_type, l.monthly_limit, coalesce(q.used, ${usedIn(sql`t.tenant_id`, sql`l.resource_type`, month)}) as used,
        case when l.${isOfJobs} then ${underWay} + 1 else 0 end as more
      from ${tenants} t join ${planLimits} l on l.plan = t.plan
      left join ${quotaUse} q on q.tenant_id = t.tenant_id and q.resource_type = l.resource_type and q.month = ${month}::date
      where t.tenant_id = ${tenantId}
    ), spent as materialized (
      select resource_type from quota
      where case when ${isOfJobs} then used + more > monthly_limit else used >= monthly_limit end
      order by resource_type limit 1
    ), close as materialized (
      select used from quota where ${isOfJobs} and used + more + ${CLOSE} > monthly_limit and not exists (select from spent)
    ), turn as (
      insert into ${quotaUse} as counter (tenant_id, resource_type, month, used)
      select ${tenantId}, ${JOBS_RESOURCE}, ${month}::date, used from close
      on conflict (tenant_id, resource_type, month) do update set used = counter.used
        where counter.xmin = (select q.xmin from ${quotaUse} q where q.tenant_id = ${tenantId} and q.${isOfJobs} and q.month = ${month}::date)
      returning 1
    ), must_wait as materialized (select from close where not exists (select from turn))`;
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
