import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { applyRetention } from '../../src/hub/sla/retention.ts';
import { capacitySnapshots, slaMetrics } from '../../src/hub/sla/tables.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { openWorld } from './world.ts';

const h = await harness();
const BUDGET_MS = 60_000;

test('old hours become days without a loss, and what is too old goes, in small batches', async () => {
  const world = await openWorld(h, { SLA_ROLLUP_DAYS: '2', SLA_RETENTION_DAYS: '10' });
  const { db } = world.deps;
  await db.run((orm) =>
    orm.execute(sql`
      insert into ${slaMetrics} (miner_id, starts_at, span_sec, collected_at, online_ms, expected_ms, completed)
      select 'm' || m, date_trunc('hour', now()) - make_interval(hours => i), 3600, now(), 3000000, 3600000, 1
      from generate_series(1, 3) m, generate_series(0, 24 * 15) i`),
  );
  await db.run((orm) =>
    orm.execute(sql`
      insert into ${capacitySnapshots} select now() - make_interval(hours => i), 1, 1, 1, 1, 1 from generate_series(0, 400) i`),
  );
  const sums = async () => {
    const [row] = await db.run((orm) =>
      orm.execute<Record<string, string>>(sql`
        select sum(online_ms) online, sum(expected_ms) expected, sum(completed) completed, count(*) rows,
          count(*) filter (where span_sec = 86400) days
        from ${slaMetrics} where starts_at >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - interval '9 days'`),
    );
    return {
      online: row?.online,
      expected: row?.expected,
      completed: row?.completed,
      days: Number(row?.days),
    };
  };
  const before = await sums();
  await applyRetention(world.deps, 7, BUDGET_MS);
  const after = await sums();
  assert.deepEqual({ ...after, days: 0 }, before);
  assert.ok(after.days >= 3 * 6, `${after.days} days`);
  const [oldest] = await db.run((orm) =>
    orm.execute<{ metrics: boolean; snapshots: boolean }>(sql`
      select (select bool_and(starts_at > now() - interval '11 days') from ${slaMetrics}) as metrics,
        (select bool_and(at > now() - interval '11 days') from ${capacitySnapshots}) as snapshots`),
  );
  assert.deepEqual({ ...oldest }, { metrics: true, snapshots: true });
  assert.deepEqual(await applyRetention(world.deps, 7, BUDGET_MS), { merged: 0, deleted: 0 });
  // Else each batch would read all days of the past, to find that they are days.
  const scans = () =>
    db.run((orm) =>
      orm.execute<{ n: string }>(
        sql`select idx_scan as n from pg_stat_user_indexes where indexrelname = 'idx_sla_metrics_unmerged'`,
      ),
    );
  await waitFor(async () => Number((await scans())[0]?.n) > 0, {
    what: 'the index of what is unmerged is read',
  });
});
