/** Which tenant has which plan, and what a plan gives. */
import { eq, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { monthOf, usedIn } from './quota.ts';
import { planLimits, quotaUse, tenants } from './tables.ts';

export interface TenantView {
  readonly tenant_id: string;
  readonly plan: string | null;
  /** First day of the month that `used` is of. */
  readonly month: string;
  readonly limits: ReadonlyArray<{
    readonly resource_type: string;
    readonly limit: string;
    readonly used: string;
  }>;
}

/**
 * Replaces the limits of a plan. Counts of its tenants begin anew from their records, since those of resources that were not limited
 * are not kept.
 * @param limits decimal strings by resource, at least one
 */
export async function putPlan(
  orm: Orm,
  plan: string,
  limits: Readonly<Record<string, string>>,
): Promise<void> {
  const rows = Object.entries(limits).map(
    ([resource, limit]) => sql`(${plan}, ${resource}, ${limit}::numeric)`,
  );
  const names = sql.join(
    Object.keys(limits).map((name) => sql`${name}`),
    sql`, `,
  );
  await orm.execute(sql`
    with gone as (delete from ${planLimits} where plan = ${plan} and resource_type not in (${names})),
    counts as (delete from ${quotaUse} where tenant_id in (select tenant_id from ${tenants} where plan = ${plan}))
    insert into ${planLimits} (plan, resource_type, monthly_limit) values ${sql.join(rows, sql`, `)}
    on conflict (plan, resource_type) do update set monthly_limit = excluded.monthly_limit`);
}

/** Gives a tenant a plan. @returns false when there is no such plan */
export async function putTenant(orm: Orm, tenantId: string, plan: string): Promise<boolean> {
  const rows = await orm.execute(sql`
    with counts as (delete from ${quotaUse} where tenant_id = ${tenantId})
    insert into ${tenants} (tenant_id, plan)
    select ${tenantId}, ${plan} where exists (select from ${planLimits} where plan = ${plan})
    on conflict (tenant_id) do update set plan = excluded.plan, updated_at = now()
    returning tenant_id`);
  return rows.length > 0;
}

/** Takes the plan of a tenant away, and with it all limits. */
export async function removeTenant(orm: Orm, tenantId: string): Promise<void> {
  await orm.delete(tenants).where(eq(tenants.tenantId, tenantId));
}

/** The plan of a tenant, and what of it is used this month. A tenant that is not known has no plan. */
export async function viewTenant(orm: Orm, tenantId: string, now = new Date()): Promise<TenantView> {
  const month = monthOf(now);
  const rows = await orm.execute<{ plan: string; resource_type: string; limit: string; used: string }>(sql`
    select t.plan, l.resource_type, trim_scale(l.monthly_limit)::text as limit,
      trim_scale(${usedIn(sql`t.tenant_id`, sql`l.resource_type`, month)})::text as used
    from ${tenants} t join ${planLimits} l on l.plan = t.plan
    where t.tenant_id = ${tenantId} order by l.resource_type`);
  return {
    tenant_id: tenantId,
    plan: rows[0]?.plan ?? null,
    month,
    limits: rows.map(({ resource_type, limit, used }) => ({ resource_type, limit, used })),
  };
}
