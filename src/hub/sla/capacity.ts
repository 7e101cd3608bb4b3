import { and, desc, gte, lt, sql } from 'drizzle-orm';
import type { Config } from '../../platform/config.ts';
import type { Database, Orm } from '../../platform/db.ts';
import { type LevelSums, levelsOf } from './levels.ts';
import { type Moment, readWindow, spanStart } from './store.ts';
import { capacitySnapshots, slaCollections, slaMetrics, slaMiners, slaSettings } from './tables.ts';
import { applyVerdicts, resolveUnmeasured, verdictOf } from './violations.ts';

const DAY_MS = 86_400_000;
const POOL = '';
const SETTINGS_ROW = 1;

type Collection = typeof slaCollections.$inferSelect;

/**
 * Closes a collection: in one statement it is marked as finished, the snapshot is stored, and the pool gets its row.
 * Then the pool is judged. Whoever repeats this after a kill adds nothing twice.
 */
export async function finishCollection(
  { db, config }: { db: Database; config: Config },
  slot: Date,
): Promise<Collection> {
  const at = { nowMs: slot.getTime(), outageMs: 0, windowSec: config.sla_window_sec };
  await db.run((orm) => storeSnapshot(orm, slot, at));
  const [snapshot, alertPct, [window]] = await Promise.all([
    db.run((orm) =>
      orm.select().from(capacitySnapshots).where(sql`${capacitySnapshots.at} = ${slot.toISOString()}`),
    ),
    capacityAlertPct(db, config),
    db.run((orm) => readWindow(orm, [POOL], at)),
  ]);
  const verdicts = poolVerdicts(window, snapshot[0], config, alertPct);
  const changes = await db.run((orm) => applyVerdicts(orm, verdicts, at.nowMs));
  const unmeasured = await db.run((orm) => resolveUnmeasured(orm, [POOL], verdicts, at.nowMs));
  const [row] = await db.run((orm) =>
    orm
      .update(slaCollections)
      .set({
        finishedAt: sql`coalesce(${slaCollections.finishedAt}, now())`,
        violationsOpened: sql`${slaCollections.violationsOpened} + ${changes.opened}`,
        violationsResolved: sql`${slaCollections.violationsResolved} + ${changes.resolved + unmeasured}`,
      })
      .where(sql`${slaCollections.slot} = ${slot.toISOString()}`)
      .returning(),
  );
  if (row === undefined) throw new Error('the collection was deleted while it ran');
  return row;
}

type Snapshot = typeof capacitySnapshots.$inferSelect;

function poolVerdicts(
  window: LevelSums | undefined,
  snapshot: Snapshot | undefined,
  config: Config,
  alertPct: number,
) {
  const levels = window === undefined ? [] : levelsOf(window, config);
  const verdicts = levels.map(({ type, value, threshold }) => verdictOf(POOL, type, value, threshold));
  if (snapshot !== undefined && snapshot.placesOnline > 0)
    verdicts.push(verdictOf(POOL, 'capacity_use', usePct(snapshot), alertPct));
  return verdicts;
}

/** Percent of the online places that have a job or a reservation. */
export function usePct({ placesUsed, placesOnline }: Pick<Snapshot, 'placesUsed' | 'placesOnline'>): number {
  return (100 * placesUsed) / placesOnline;
}

/** The snapshot is the mark that the row of the pool has this collection in it. */
async function storeSnapshot(orm: Orm, slot: Date, at: Moment): Promise<void> {
  const time = sql`${slot.toISOString()}::timestamptz`;
  await orm.execute(sql`
    with snapshot as (
      insert into ${capacitySnapshots} (at, miners, miners_online, places_total, places_online, places_used)
      select slot, members.miners, online, greatest(members.places, places_online), places_online, places_used
      from ${slaCollections}, (
        select count(*) as miners, coalesce(sum(places), 0) as places from ${slaMiners}
        where live_at >= ${new Date(slot.getTime() - DAY_MS).toISOString()}::timestamptz
      ) members
      where slot = ${time}
      on conflict do nothing
      returning *
    )
    insert into ${slaMetrics} as old (miner_id, starts_at, span_sec, collected_at, places_online, places_total)
    select ${POOL}, ${spanStart(at)}, ${at.windowSec}::int, at, places_online, places_total from snapshot
    on conflict (miner_id, starts_at, span_sec) do update set
      collected_at = excluded.collected_at, places_online = old.places_online + excluded.places_online,
      places_total = old.places_total + excluded.places_total`);
}

/** Percent of use from which on an alert is given: as configured over the API, else CAPACITY_ALERT_THRESHOLD_PCT. */
export async function capacityAlertPct(
  db: Database,
  config: Pick<Config, 'capacity_alert_threshold_pct'>,
): Promise<number> {
  const [row] = await db.run((orm) => orm.select().from(slaSettings));
  return row?.capacityAlertPct ?? config.capacity_alert_threshold_pct;
}

/** Sets the percent of use from which on an alert is given. */
export async function setCapacityAlertPct(orm: Orm, capacityAlertPct: number): Promise<void> {
  await orm
    .insert(slaSettings)
    .values({ id: SETTINGS_ROW, capacityAlertPct })
    .onConflictDoUpdate({ target: slaSettings.id, set: { capacityAlertPct } });
}

/** Snapshots of the last hours before a moment, newest first. */
export async function readSnapshots(orm: Orm, since: Date, before: Date, limit: number): Promise<Snapshot[]> {
  return orm
    .select()
    .from(capacitySnapshots)
    .where(and(gte(capacitySnapshots.at, since), lt(capacitySnapshots.at, before)))
    .orderBy(desc(capacitySnapshots.at))
    .limit(limit);
}
