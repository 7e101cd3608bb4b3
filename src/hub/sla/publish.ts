import { asc, gt, inArray, lt, max, not } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import { eventsChannel } from '../../platform/keys.ts';
import { masters, type RedisClient } from '../../platform/redis.ts';
import type { Scripts } from '../../platform/scripts.ts';
import { slaAlerts } from './tables.ts';

/** An alert as watchers get it, over /v1/events and by webhook. */
export interface Alert {
  /** Counts up; a watcher asks for what came after the last it has seen. */
  readonly id: number;
  /** `violation.opened`, `capacity.resolved`, ... */
  readonly type: string;
  readonly created_at: string;
  readonly data: Record<string, unknown>;
}

/** An alert on its way to the hubs. */
export interface AlertMessage extends Alert {
  /** The alert before it: who has not had that one has missed some, for messages may be lost, or overtake each other. */
  readonly after: number;
}

interface PublishDeps {
  readonly db: Database;
  readonly redis: RedisClient;
  readonly scripts: Scripts;
}

/**
 * Tells every hub of the alerts that it has not been told of, oldest first, `batch` at a time, for about `budgetMs`. After a
 * crash in between an alert is told twice: watchers know it by its id.
 */
export async function publishAlerts(deps: PublishDeps, batch: number, budgetMs: number): Promise<number> {
  const deadline = performance.now() + budgetMs;
  for (let total = 0; ; ) {
    const published = await publishBatch(deps, batch);
    total += published;
    if (published < batch || performance.now() >= deadline) return total;
  }
}

async function publishBatch({ db, redis, scripts }: PublishDeps, limit: number): Promise<number> {
  const rows = await db.run((orm) =>
    orm.select().from(slaAlerts).where(not(slaAlerts.published)).orderBy(asc(slaAlerts.id)).limit(limit),
  );
  const ids = rows.map((row) => row.id);
  const [first] = ids;
  if (first === undefined) return 0;
  const before = await db.run((orm) => newestAlertId(orm, first));
  const messages = rows.map((row, i): AlertMessage => ({ ...alertOf(row), after: ids[i - 1] ?? before }));
  const channel = eventsChannel(scripts.prefix);
  // All by one node: ioredis would give each to another, and few would come in their order.
  const [node = redis] = masters(redis);
  await Promise.all(messages.map((message) => node.publish(channel, JSON.stringify(message))));
  await db.run((orm) => orm.update(slaAlerts).set({ published: true }).where(inArray(slaAlerts.id, ids)));
  return rows.length;
}

/** Alerts after an id, oldest first. */
export async function readAlerts(orm: Orm, after: number, limit: number): Promise<Alert[]> {
  const rows = await orm
    .select()
    .from(slaAlerts)
    .where(gt(slaAlerts.id, after))
    .orderBy(asc(slaAlerts.id))
    .limit(limit);
  return rows.map(alertOf);
}

/** The id of the newest alert, or of the newest before another; 0 without one. */
export async function newestAlertId(orm: Orm, before?: number): Promise<number> {
  const isBefore = before === undefined ? undefined : lt(slaAlerts.id, before);
  const [row] = await orm
    .select({ id: max(slaAlerts.id) })
    .from(slaAlerts)
    .where(isBefore);
  return row?.id ?? 0;
}

/** The form of an alert on the wire. */
export function alertOf({ id, type, createdAt, data }: typeof slaAlerts.$inferSelect): Alert {
  return { id, type, created_at: createdAt.toISOString(), data };
}
