/** The way of usage records to the coordinator, in Postgres. Every step is one guarded statement. */
import { and, eq, inArray, isNull, type SQL, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { isoText } from '../../platform/statement.ts';
import { usagePause, usageRecords } from './tables.ts';

/** A record that this pass has claimed for one try. Decimals are strings, in their shortest form. */
export interface ClaimedRecord {
  readonly id: string;
  readonly tenantId: string;
  readonly jobId: string | null;
  readonly resourceType: string;
  readonly quantity: string;
  readonly unitPrice: string;
  readonly totalAmount: string;
  readonly metadata: Record<string, unknown>;
  /** ISO 8601, UTC. */
  readonly usedAt: string;
  /** This try counted. */
  readonly attempts: number;
}

/** Which records a call is about; what is left out does not narrow. */
export interface Window {
  readonly minerId?: string | undefined;
  readonly tenantId?: string | undefined;
  readonly from?: Date | undefined;
  readonly until?: Date | undefined;
}

export interface Unsent {
  readonly records: number;
  /** Those that were tried. */
  readonly failing: number;
  /** Those of them that the coordinator said no to. */
  readonly refused: number;
  /** Those that nobody has tried yet, or is to try again now. */
  readonly pending: number;
  readonly lastError: string | null;
}

const MAX_ERROR_CHARS = 300;
const MAX_COUNTED = 1_000_000;

/** The column has milliseconds; rounded up, now would be in the future. */
const DUE_NOW = sql`date_trunc('milliseconds', now())`;

/** Makes waiting records of known tenants due, at most `limit`. Those that are due or sent stay as they are. @returns how many */
export async function releaseWaiting(orm: Orm, window: Window, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    update ${usageRecords} set due_at = ${DUE_NOW}
    where id in (
      select id from ${usageRecords}
      where sent_at is null and due_at is null and tenant_id is not null and ${within(window)}
      limit ${limit} for update skip locked
    )
    returning id`);
  return rows.length;
}

/**
 * Makes records that were put off due again now, at most `limit`. Those that somebody has claimed, is on his way to try, stay as
 * they are. @returns how many
 */
export async function retryFailed(orm: Orm, window: Window, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    update ${usageRecords} set due_at = ${DUE_NOW}
    where id in (
      select id from ${usageRecords}
      where last_error is not null and claim is null and due_at > now() and ${within(window)}
      limit ${limit} for update skip locked
    )
    returning id`);
  return rows.length;
}

/** Claims what is due, oldest first, for `leaseMs`; of what others have claimed none, and none during a pause. */
export async function claimDue(
  orm: Orm,
  claim: string,
  limit: number,
  leaseMs: number,
): Promise<ClaimedRecord[]> {
  const rows = await orm.execute<Record<string, unknown>>(sql`
    update ${usageRecords} set claim = ${claim}::uuid, attempts = attempts + 1,
      due_at = now() + ${leaseMs}::float8 * interval '1 millisecond'
    where id in (
      select id from ${usageRecords}
      where due_at <= now() and tenant_id is not null
        and not exists (select from ${usagePause} where until > now())
      order by due_at limit ${limit} for update skip locked
    )
    returning id, tenant_id as "tenantId", job_id as "jobId", resource_type as "resourceType",
      trim_scale(quantity)::text as quantity, trim_scale(unit_price)::text as "unitPrice",
      trim_scale(total_amount)::text as "totalAmount", metadata, attempts,
      ${isoText(sql`used_at`)} as "usedAt"`);
  return rows as unknown as ClaimedRecord[];
}

/** Notes that the coordinator has a record. Whoever heard so says so: an acceptance holds, whoever has the claim by now. */
export async function markSent(orm: Orm, id: string): Promise<boolean> {
  const rows = await orm
    .update(usageRecords)
    .set({ sentAt: sql`now()`, dueAt: null, claim: null, lastError: null, refusedAt: null })
    .where(and(eq(usageRecords.id, id), isNull(usageRecords.sentAt)))
    .returning({ id: usageRecords.id });
  return rows.length > 0;
}

/** Puts a record off that was refused, or got no answer about it. A pass that has lost its claim changes nothing. */
export async function postpone(
  orm: Orm,
  id: string,
  claim: string,
  delayMs: number,
  { error, isRefused }: { readonly error: string; readonly isRefused: boolean },
): Promise<void> {
  await orm
    .update(usageRecords)
    .set({
      claim: null,
      dueAt: sql`now() + ${delayMs}::float8 * interval '1 millisecond'`,
      lastError: error.slice(0, MAX_ERROR_CHARS),
      refusedAt: isRefused ? sql`now()` : null,
    })
    .where(isClaimed([id], claim));
}

/** Gives back claims that were not tried. */
export async function giveBack(orm: Orm, ids: readonly string[], claim: string): Promise<void> {
  await orm
    .update(usageRecords)
    .set({ claim: null, attempts: sql`${usageRecords.attempts} - 1`, dueAt: DUE_NOW })
    .where(isClaimed(ids, claim));
}

/** Nothing is claimed for so long. A longer pause is not cut short. */
export async function pause(orm: Orm, forMs: number): Promise<void> {
  await orm.execute(sql`
    insert into ${usagePause} as old (is_only, until)
    values (true, now() + ${forMs}::float8 * interval '1 millisecond')
    on conflict (is_only) do update set until = greatest(old.until, excluded.until)`);
}

/** What of a window the coordinator does not have. */
export async function countUnsent(orm: Orm, window: Window): Promise<Unsent> {
  const [row] = await orm.execute<Record<string, string | null>>(sql`
    select count(*) as records, count(last_error) as failing, count(refused_at) as refused, max(last_error) as "lastError",
      count(*) filter (where last_error is null or claim is not null or due_at <= now()) as pending
    from ${usageRecords}
    where (due_at is not null or (sent_at is null and due_at is null)) and ${within(window)}`);
  return {
    records: Number(row?.records),
    failing: Number(row?.failing),
    refused: Number(row?.refused),
    pending: Number(row?.pending),
    lastError: row?.lastError ?? null,
  };
}

/** What becomes of a record that the coordinator does not have. */
type UnsentState = 'waiting' | 'due' | 'failing' | 'refused';

/**
 * What the coordinator does not have: `waiting` for a sync, `due`, `refused`, or `failing`, which was tried and had no answer that is
 * about it. No more than a million of those that wait and of the others are counted.
 */
export async function countByState(orm: Orm): Promise<Record<UnsentState, number>> {
  const [row] = await orm.execute<Record<UnsentState, string>>(sql`
    select (select count(*) from (
        select from ${usageRecords} where sent_at is null and due_at is null limit ${MAX_COUNTED}
      ) w) as waiting, count(*) filter (where last_error is null) as due, count(refused_at) as refused,
      count(last_error) filter (where refused_at is null) as failing
    from (select last_error, refused_at from ${usageRecords} where due_at is not null limit ${MAX_COUNTED}) d`);
  return {
    waiting: Number(row?.waiting),
    due: Number(row?.due),
    failing: Number(row?.failing),
    refused: Number(row?.refused),
  };
}

/** Records of a window that the coordinator has taken since `since`. */
export async function countSent(orm: Orm, window: Window, since: Date): Promise<number> {
  const [row] = await orm.execute<{ records: string }>(sql`
    select count(*) as records from ${usageRecords}
    where sent_at >= ${since.toISOString()}::timestamptz and ${within(window)}`);
  return Number(row?.records);
}

/** Deletes records that were sent before `before`, at most `limit`. @returns how many */
export async function deleteSent(orm: Orm, before: Date, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    delete from ${usageRecords} where id in (
      select id from ${usageRecords} where sent_at < ${before.toISOString()}::timestamptz
      order by sent_at limit ${limit} for update skip locked
    )
    returning id`);
  return rows.length;
}

/** The clock that `sent_at` is written by. */
export async function readClock(orm: Orm): Promise<Date> {
  const [row] = await orm.execute<{ ms: string }>(sql`select extract(epoch from now()) * 1000 as ms`);
  return new Date(Number(row?.ms));
}

/** The records of a window, as a condition. */
export function within({ minerId, tenantId, from, until }: Window): SQL {
  return sql`${minerId === undefined ? sql`true` : sql`miner_id = ${minerId}`}
    and ${tenantId === undefined ? sql`true` : sql`tenant_id = ${tenantId}`}
    and ${from === undefined ? sql`true` : sql`used_at >= ${from.toISOString()}::timestamptz`}
    and ${until === undefined ? sql`true` : sql`used_at < ${until.toISOString()}::timestamptz`}`;
}

function isClaimed(ids: readonly string[], claim: string): SQL | undefined {
  return and(inArray(usageRecords.id, [...ids]), eq(usageRecords.claim, claim), isNull(usageRecords.sentAt));
}
