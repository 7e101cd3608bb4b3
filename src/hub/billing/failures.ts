/** Records that were sent and that the coordinator does not have. */
import { sql } from 'drizzle-orm';
import type * as v from 'valibot';
import type { Orm } from '../../platform/db.ts';
import { isoText } from '../../platform/statement.ts';
import type { Page } from '../sla/queries.ts';
import type { FailuresAnswer, FailuresQuery } from './schema.ts';
import { within } from './store.ts';
import { usageRecords } from './tables.ts';

type Failure = v.InferOutput<typeof FailuresAnswer>[number];

/** Which they are and why, those of the newest uses first. */
export async function listFailures(
  orm: Orm,
  { state, tenant_id, miner_id, limit, cursor }: v.InferOutput<typeof FailuresQuery>,
): Promise<Page<Failure>> {
  const [usedAtMs, id] = cursor?.split('.') ?? [];
  const rows = await orm.execute<Failure & { usedAtMs: string }>(sql`
    select id, case when refused_at is null then 'failing' else 'refused' end as state, last_error, attempts,
      ${isoText(sql`due_at`)} as next_attempt_at, tenant_id, miner_id, job_id, resource_type,
      trim_scale(quantity)::text as quantity, trim_scale(unit_price)::text as unit_price,
      trim_scale(total_amount)::text as total_amount, ${isoText(sql`used_at`)} as timestamp,
      (extract(epoch from used_at) * 1000)::bigint as "usedAtMs"
    from ${usageRecords}
    where last_error is not null and ${within({ tenantId: tenant_id, minerId: miner_id })}
      and ${state === undefined ? sql`true` : state === 'refused' ? sql`refused_at is not null` : sql`refused_at is null`}
      and ${cursor === undefined ? sql`true` : sql`(used_at, id) < (to_timestamp(${usedAtMs}::float8 / 1000), ${id}::uuid)`}
    order by used_at desc, id desc limit ${limit + 1}`);
  const items = rows.slice(0, limit).map(({ usedAtMs: _, ...failure }) => failure);
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return { items, nextCursor: last === undefined ? undefined : `${last.usedAtMs}.${last.id}` };
}
