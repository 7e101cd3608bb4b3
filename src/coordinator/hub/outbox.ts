import { inArray, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { fullJitterMs } from '../../sdk/backoff.ts';
import { HubError } from '../../sdk/errors.ts';
import type { CoordinatorDeps } from '../deps.ts';
import type { Hub } from './client.ts';
import { hubOutbox } from './tables.ts';

type OutboxDeps = Pick<CoordinatorDeps, 'db' | 'config' | 'hub' | 'metrics' | 'log'>;

interface Report extends Record<string, unknown> {
  readonly id: string;
  readonly job_id: string;
  readonly miner_id: string;
  readonly outcome: 'accepted' | 'rejected' | 'failed' | 'completed';
  readonly reservation_id: string | null;
  readonly latency_ms: number | null;
  readonly fail_code: string | null;
  readonly attempts: number;
}

const BATCH = 64;
const AT_A_TIME = 16;
const BACKOFF = { baseMs: 500, capMs: 60_000 };
/** A batch that has not said how it went after this long is taken for lost, with the replica that sent it. */
const LOST_AFTER_MS = 30_000;

/** Refusals that say something of the moment; any other would be the same the next time. */
const MAY_PASS = new Set([
  'unreachable',
  'timeout',
  'bad_answer',
  'rate_limited',
  'unavailable',
  'internal',
  'unauthenticated',
  'forbidden',
]);

/**
 * Sends what is due to the pool hub, once through. Reports of one job and miner go in their order. A report that is sent twice counts once at
 * the hub, so a replica may die between the answer and the note of it.
 * @returns how many were taken up
 */
export async function drainOutbox(deps: OutboxDeps): Promise<number> {
  const { db, hub } = deps;
  if (hub === undefined) return 0;
  const batch = [...(await db.run(takeDue))];
  const done: { id: number; refusal: string | null }[] = [];
  let isAway = false;
  const work = async () => {
    for (let row = batch.shift(); row !== undefined; row = batch.shift()) {
      // Once the hub does not answer, the rest of the batch is put off as well.
      const outcome = isAway ? 'later' : await send(deps, hub, row);
      if (outcome === 'later') {
        isAway = true;
        await putOff(deps, row);
      } else done.push({ id: Number(row.id), refusal: outcome });
    }
  };
  const taken = batch.length;
  await Promise.all(Array.from({ length: Math.min(AT_A_TIME, taken) }, work));
  if (done.length > 0) await db.run((orm) => markDone(orm, done));
  return taken;
}

/** @returns null when the hub has it, why when it never will, `later` when it may */
async function send({ metrics, log }: OutboxDeps, hub: Hub, row: Report): Promise<string | null | 'later'> {
  try {
    await hub.feedback({
      job_id: row.job_id,
      miner_id: row.miner_id,
      outcome: row.outcome,
      ...(row.latency_ms === null ? {} : { latency_ms: row.latency_ms }),
      ...(row.fail_code === null ? {} : { fail_code: row.fail_code }),
      ...(row.reservation_id === null ? {} : { reservation_id: row.reservation_id }),
    });
    metrics.hubReports.inc({ result: 'sent' });
    return null;
  } catch (error) {
    if (hub.isStopped) return 'later';
    if (!(error instanceof HubError)) throw error;
    if (MAY_PASS.has(error.code)) {
      metrics.hubReports.inc({ result: 'put_off' });
      return 'later';
    }
    metrics.hubReports.inc({ result: 'refused' });
    // A miner that never registered with the hub is no fault of anybody.
    if (error.code !== 'not_found')
      log.warn({ err: error, report_id: row.id }, 'the pool hub refused a report');
    return error.code;
  }
}

/** Takes the oldest due reports, for others to see again when this replica is lost. */
async function takeDue(orm: Orm): Promise<Report[]> {
  return orm.execute<Report>(sql`
    update ${hubOutbox} set attempts = attempts + 1, due_at = now() + ${LOST_AFTER_MS}::float8 * interval '1 millisecond'
    where id in (
      select o.id from ${hubOutbox} o where o.done_at is null and o.due_at <= now()
        and not exists (select from ${hubOutbox} e
          where e.job_id = o.job_id and e.miner_id = o.miner_id and e.done_at is null and e.id < o.id)
      order by o.due_at, o.id limit ${BATCH} for update of o skip locked)
    returning id, job_id, miner_id, outcome, reservation_id, latency_ms, fail_code, attempts`);
}

async function putOff({ db }: OutboxDeps, { id, attempts }: Report): Promise<void> {
  const waitMs = BACKOFF.baseMs / 2 + fullJitterMs(attempts, BACKOFF);
  await db.run((orm) =>
    orm.execute(
      sql`update ${hubOutbox} set due_at = now() + ${waitMs}::float8 * interval '1 millisecond' where id = ${id} and done_at is null`,
    ),
  );
}

async function markDone(orm: Orm, done: readonly { id: number; refusal: string | null }[]): Promise<void> {
  const refused = done.filter(({ refusal }) => refusal !== null);
  for (const refusal of new Set(refused.map((row) => row.refusal))) {
    const ids = refused.filter((row) => row.refusal === refusal).map(({ id }) => id);
    await orm.update(hubOutbox).set({ doneAt: sql`now()`, refusal }).where(inArray(hubOutbox.id, ids));
  }
  const sent = done.filter(({ refusal }) => refusal === null).map(({ id }) => id);
  if (sent.length > 0)
    await orm.update(hubOutbox).set({ doneAt: sql`now()` }).where(inArray(hubOutbox.id, sent));
}

/** Forgets reports that are done for longer than `keepDays`, at most `limit`. @returns how many */
export async function forgetReports(orm: Orm, keepDays: number, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    delete from ${hubOutbox} where id in (
      select id from ${hubOutbox} where done_at is not null and done_at < now() - ${keepDays}::float8 * interval '1 day'
      order by done_at limit ${limit} for update skip locked)
    returning 1 as one`);
  return rows.length;
}
