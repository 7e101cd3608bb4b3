import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import { unavailable } from '../../platform/errors.ts';
import { statement } from '../../platform/statement.ts';
import { fullJitterMs } from '../../sdk/backoff.ts';
import { jobQuota, monthOf } from '../billing/quota.ts';
import type { JobNeeds } from '../miners/fit.ts';
import { endOffers, report } from './effects.ts';
import type { JobState } from './states.ts';
import { jobs } from './tables.ts';
import { change, mayChange, NOW_MS } from './transition.ts';
import { VIEW_COLUMNS, type ViewRow, viewColumnsOf } from './view.ts';

/** A job to be stored. Texts are JSON as received. */
export interface NewJob {
  readonly jobId: string;
  readonly clientId: string;
  readonly idempotencyKey: string | null;
  readonly requestDigest: string;
  readonly payloadText: string;
  readonly constraintsText: string;
  readonly needs: JobNeeds;
  readonly ttlMs: number;
  readonly paymentAmount: string | null;
  readonly paymentCurrency: string | null;
  /** Milliseconds for which only chosen miners may take it. */
  readonly heldMs: number;
}

const columns = sql.raw(VIEW_COLUMNS);

/** Submissions that wait for each other, close to the limit of a plan, are a few milliseconds each. */
const TURN_BACKOFF = { baseMs: 2, capMs: 50 };
const MAX_TURNS = 100;

const insert = statement<InsertValues>(sql`
    with ${jobQuota(sql`${sql.placeholder('clientId')}::text`, sql.placeholder('month'))}, job as (
      insert into ${jobs} (job_id, client_id, idempotency_key, request_digest, payload, constraints, need_gpu, need_cuda,
        need_vram_mb, need_models, need_region, need_max_price, payment_amount, payment_currency, expires_at, open_at)
      select ${sql.placeholder('jobId')}, ${sql.placeholder('clientId')}, ${sql.placeholder('idempotencyKey')},
        ${sql.placeholder('requestDigest')}, ${sql.placeholder('payloadText')}, ${sql.placeholder('constraintsText')},
        ${sql.placeholder('gpu')}, ${sql.placeholder('cuda')}::int, ${sql.placeholder('vramMb')}::int,
        case when ${sql.placeholder('models')}::jsonb is null then null
          else array(select jsonb_array_elements_text(${sql.placeholder('models')}::jsonb)) end,
        ${sql.placeholder('region')}, ${sql.placeholder('maxPrice')}::numeric, ${sql.placeholder('paymentAmount')}::numeric,
        ${sql.placeholder('paymentCurrency')}, now() + ${sql.placeholder('ttlMs')}::float8 * interval '1 millisecond',
        ${sql.raw(NOW_MS)} + ${sql.placeholder('heldMs')}::float8 * interval '1 millisecond'
      where not exists (select from spent) and not exists (select from must_wait)
      on conflict (client_id, idempotency_key) where idempotency_key is not null do nothing
      returning ${columns}
    )
    select (select resource_type from spent) as spent, exists (select from must_wait) as must_wait, job.*
    from (values (1)) as one (n) left join job on true`);

interface InsertValues extends Omit<NewJob, 'needs'>, Record<string, unknown> {
  /** As monthOf. */
  readonly month: string;
  readonly gpu: string | null;
  readonly cuda: number | null;
  readonly vramMb: number | null;
  readonly models: string | null;
  readonly region: string | null;
  readonly maxPrice: string | null;
}

/** What came of a submission, unless the client has used its idempotency key before. */
export interface Inserted {
  readonly row: ViewRow | undefined;
  /** The resource of which the client's plan gives no more this month: nothing was stored. */
  readonly spent: string | undefined;
}

/** Stores a job as far as the plan of its client goes. Nothing at all comes of it when the client has used the idempotency key before. */
export async function insertJob(
  db: Pick<Database, 'query'>,
  { needs, ...job }: NewJob,
  now = new Date(),
): Promise<Inserted> {
  const { gpu, cuda, vram_mb: vramMb, models, region, max_price: maxPrice } = needs;
  const listed = models === null ? null : JSON.stringify(models);
  const values = { ...job, month: monthOf(now), gpu, cuda, vramMb, models: listed, region, maxPrice };
  type Row = (ViewRow | { readonly job_id: null }) & {
    readonly spent: string | null;
    readonly must_wait: boolean;
  };
  const store = async () => (await db.query<Row, InsertValues>(insert, values))[0];
  let row = await store();
  for (let turn = 0; row?.must_wait === true; turn += 1) {
    if (turn === MAX_TURNS) throw unavailable('the count of the plan');
    await sleep(fullJitterMs(turn, TURN_BACKOFF));
    row = await store();
  }
  if (row === undefined) throw new TypeError('a join without a row');
  return { row: row.job_id === null ? undefined : (row as ViewRow), spent: row.spent ?? undefined };
}

/** The job that a client submitted under an idempotency key. */
export async function findByKey(
  orm: Orm,
  clientId: string,
  key: string,
): Promise<(ViewRow & { readonly request_digest: string }) | undefined> {
  const [row] = await orm.execute<ViewRow & { request_digest: string }>(
    sql`select ${columns}, request_digest from ${jobs} where client_id = ${clientId} and idempotency_key = ${key}`,
  );
  return row;
}

/** A job of a client. */
export async function findJob(orm: Orm, clientId: string, jobId: string): Promise<ViewRow | undefined> {
  const [row] = await orm.execute<ViewRow>(
    sql`select ${columns} from ${jobs} where job_id = ${jobId} and client_id = ${clientId}`,
  );
  return row;
}

/** The same with its result, JSON as the miner sent it. */
export async function findResult(
  orm: Orm,
  clientId: string,
  jobId: string,
): Promise<(ViewRow & { readonly result: string | null }) | undefined> {
  const [row] = await orm.execute<ViewRow & { result: string | null }>(
    sql`select ${columns}, result from ${jobs} where job_id = ${jobId} and client_id = ${clientId}`,
  );
  return row;
}

export interface JobFilter {
  readonly clientId?: string | undefined;
  readonly minerId?: string | undefined;
  readonly state?: JobState | undefined;
  /** Last job of the page before. */
  readonly cursor?: string | undefined;
  readonly limit: number;
}

/** Jobs, newest first: one more than `limit` when there is another page. */
export async function listJobs(orm: Orm, filter: JobFilter): Promise<ViewRow[]> {
  const conditions = [
    filter.clientId === undefined ? undefined : sql`client_id = ${filter.clientId}`,
    filter.minerId === undefined ? undefined : sql`assigned_miner_id = ${filter.minerId}`,
    filter.state === undefined ? undefined : sql`state = ${filter.state}`,
    filter.cursor === undefined ? undefined : sql`job_id < ${filter.cursor}`,
  ].filter((condition) => condition !== undefined);
  const where = conditions.length === 0 ? sql`true` : sql.join(conditions, sql` and `);
  return orm.execute<ViewRow>(
    sql`select ${columns} from ${jobs} where ${where} order by job_id desc limit ${filter.limit + 1}`,
  );
}

/** A job that was changed, and the places on miners that were held for it. */
export interface ChangedJob {
  readonly row: ViewRow;
  readonly reservationIds: readonly string[];
}

type ChangedRow = ViewRow & { readonly freed: string[] | null };

/** Puts the reservations of the ended offers beside each changed job. */
const freedOf = sql`(select array_to_json(array_agg(f.reservation_id)) from freed f
  where f.job_id = c.job_id and f.reservation_id is not null) as freed`;

/** Cancels a job of a client. @returns undefined when it has none of that id that is not over */
export async function cancelJob(orm: Orm, clientId: string, jobId: string): Promise<ChangedJob | undefined> {
  const [row] = await orm.execute<ChangedRow>(sql`
    with canceled as (
      update ${jobs} set ${change('cancel')}
      where job_id = ${jobId} and client_id = ${clientId} and ${mayChange('cancel')} returning ${columns}
    ), freed as (${endOffers('canceled')})
    select c.*, ${freedOf} from canceled c`);
  return row === undefined ? undefined : changedJob(row);
}

/** Ends jobs whose time is up, at most `limit`; a miner that had one did not finish in time. */
export async function expireJobs(orm: Orm, limit: number, reports: boolean): Promise<ChangedJob[]> {
  const rows = await orm.execute<ChangedRow>(sql`
    with due as (
      select job_id, state as was from ${jobs}
      where state in ('QUEUED', 'RUNNING') and expires_at <= now()
      order by expires_at limit ${limit} for update skip locked
    ), expired as (
      update ${jobs} set ${change('expire')} from due
      where jobs.job_id = due.job_id and ${mayChange('expire')}
      returning ${sql.raw(viewColumnsOf('jobs'))}, jobs.assigned_miner_id as miner_id, jobs.delivered_at, due.was
    ), reported as (${report(reports, { from: 'expired', outcome: 'failed', failCode: sql`'timeout'`, where: `r.was = 'RUNNING' and r.delivered_at is not null` })}),
    freed as (${endOffers('expired')})
    select c.*, ${freedOf} from expired c`);
  return rows.map(changedJob);
}

function changedJob(row: ChangedRow): ChangedJob {
  return { row, reservationIds: row.freed ?? [] };
}
