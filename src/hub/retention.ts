/** What is deleted because nobody needs it any more: old feedback, and miners that enrolled themselves and stay away. */
import { sql } from 'drizzle-orm';
import type { Config } from '../platform/config.ts';
import type { Database, Orm } from '../platform/db.ts';
import type { TaskDefinition } from '../platform/tasks.ts';
import { usageRecords } from './billing/tables.ts';
import { batchesOf, type DurableDeps, ONCE, withPostgres } from './durable-task.ts';
import { miners, priceOverrides } from './miners/tables.ts';
import { slaMiners } from './sla/tables.ts';
import { feedback } from './trust/tables.ts';

const RETAIN_EVERY_MS = 600_000;
const RETAIN_BUDGET_MS = 10_000;

type RetentionSettings = Pick<
  Config,
  'feedback_retention_days' | 'miner_retention_days' | 'miner_enrollment'
>;

export function retentionTask(deps: DurableDeps & { readonly config: Config }): TaskDefinition {
  return {
    name: 'hub-retain',
    // Beside the retention of the service levels, so that the two take turns, and nothing that is urgent waits for them.
    queue: 'sla',
    ...batchesOf(5_000, 50_000),
    everyMs: RETAIN_EVERY_MS,
    ...ONCE,
    run: ({ batch }) => withPostgres(deps, () => forget(deps, batch, RETAIN_BUDGET_MS)),
  };
}

/**
 * Deletes `batch` rows by a statement, so that no lock is held for long.
 * @param budgetMs no new batch is begun after this long; the next run goes on
 */
async function forget(
  { db, config }: { db: Database; config: RetentionSettings },
  batch: number,
  budgetMs: number,
): Promise<{ feedback: number; miners: number }> {
  const deadline = performance.now() + budgetMs;
  const total = { feedback: 0, miners: 0 };
  let after: string | null = '0';
  while (after !== null && performance.now() < deadline) {
    const from: string = after;
    const page = await db.run((orm) => forgetFeedback(orm, config.feedback_retention_days, from, batch));
    total.feedback += page.deleted;
    after = page.next;
  }
  // With closed enrollment an administrator has given each of them its key, and may take it back.
  let isMore = config.miner_enrollment === 'open';
  while (isMore && performance.now() < deadline) {
    const gone = await db.run((orm) => forgetMiners(orm, config.miner_retention_days, batch));
    total.miners += gone;
    isMore = gone === batch;
  }
  return total;
}

/**
 * Looks at the next `limit` rows after an id and deletes the old ones. Ids grow with time, so the old ones come first and no index on the
 * time is needed; what waited in the journal goes a little later, and a few rows of a hub whose clock was ahead hold no others up. Kept
 * are rows that the registry has not been told of, and those that a usage record without a tenant takes its hours of GPU from.
 * @returns `next`: where to go on, null when the rows left are young
 */
async function forgetFeedback(
  orm: Orm,
  days: number,
  after: string,
  limit: number,
): Promise<{ deleted: number; next: string | null }> {
  const [row] = await orm.execute<{ deleted: number; next: string | null }>(sql`
    with page as materialized (
      select id, created_at < now() - make_interval(days => ${days}) as is_old
      from ${feedback} where id > ${after}::int8 order by id limit ${limit}
    ), old as materialized (
      select f.id from ${feedback} f join page using (id)
      where page.is_old and f.applied
        and not exists (select from ${usageRecords} u where u.feedback_id = f.id and u.tenant_id is null)
      order by f.id for update of f skip locked
    ), gone as (
      delete from ${feedback} where id in (select id from old) returning 1
    )
    select (select count(*)::int from gone) as deleted,
      (select max(id) from page having bool_or(is_old) and count(*) = ${limit}::int) as next`);
  return row ?? { deleted: 0, next: null };
}

/**
 * Deletes miners that bound a key to their id themselves and have been silent for `days`, at most `limit`. One of them that comes back enrols anew,
 * and finds nothing missing: whoever has feedback or waits for its tenant stays, as do revoked ids, which stay refused, and
 * prices set by an administrator. A registration at the same moment counts as a sign of life: see `authorizeMiner`.
 * @returns how many
 */
async function forgetMiners(orm: Orm, days: number, limit: number): Promise<number> {
  const [row] = await orm.execute<{ miners: number }>(sql`
    with silent as (
      select miner_id from ${miners} m
      where coalesce(m.last_seen_at, m.created_at) < now() - make_interval(days => ${days}) and m.api_key_hash is not null
        and not exists (select from ${feedback} f where f.miner_id = m.miner_id)
        and not exists (select from ${usageRecords} u where u.miner_id = m.miner_id and u.tenant_id is null)
        and not exists (select from ${priceOverrides} o where o.miner_id = m.miner_id)
      order by miner_id limit ${limit} for update of m skip locked
    ), gone as (
      delete from ${miners} where miner_id in (select miner_id from silent) returning miner_id
    ), forgotten as (
      -- Its feedback is numbered from 1 again.
      delete from ${slaMiners} where miner_id in (select miner_id from gone)
    )
    select count(*)::int as miners from gone`);
  return row?.miners ?? 0;
}
