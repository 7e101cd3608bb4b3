/** The outbox of settlements in Postgres. Every change is one guarded statement. */
import { and, desc, eq, inArray, isNull, lt, or, type SQL, sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { type SettlementState, settlements } from './tables.ts';

/** A settlement that this process has claimed for one try. */
export interface ClaimedSettlement {
  readonly jobId: string;
  readonly buyer: string;
  readonly provider: string;
  /** Decimal string. */
  readonly amount: string;
  readonly state: 'pending' | 'escrowed';
  readonly goal: 'release' | 'refund';
  /** This try counted. */
  readonly attempts: number;
}

export type SettlementRow = typeof settlements.$inferSelect;

/** Place in a list that is ordered by time of creation, newest first. */
export interface SettlementCursor {
  readonly createdAt: Date;
  readonly jobId: string;
}

const MAX_ERROR_CHARS = 300;

/** Claims what is due, oldest first, for `leaseMs`; of what others have claimed none. */
export async function claimDue(
  orm: Orm,
  claim: string,
  limit: number,
  leaseMs: number,
): Promise<ClaimedSettlement[]> {
  const rows = await orm.execute<Record<string, unknown>>(sql`
    update ${settlements} set claim = ${claim}, attempts = attempts + 1,
      due_at = now() + ${leaseMs} * interval '1 millisecond', updated_at = now()
    where job_id in (
      select job_id from ${settlements}
      where state in ('pending', 'escrowed') and driver = 'rpc' and due_at <= now()
      order by due_at limit ${limit} for update skip locked
    )
    returning job_id as "jobId", buyer, provider, trim_scale(amount)::text as amount, state, goal, attempts`);
  return rows as unknown as ClaimedSettlement[];
}

/** Notes a step that the node has done. @returns false when somebody else has taken over */
export async function advance(
  orm: Orm,
  { jobId }: Pick<ClaimedSettlement, 'jobId'>,
  claim: string,
  state: SettlementState,
): Promise<boolean> {
  const isDone = state !== 'escrowed';
  return changed(orm, jobId, claim, {
    state,
    attempts: 0,
    lastError: null,
    ...(isDone ? { claim: null } : {}),
  });
}

/** Puts a settlement off. @param state what it falls back to */
export async function postpone(
  orm: Orm,
  { jobId }: Pick<ClaimedSettlement, 'jobId'>,
  claim: string,
  delayMs: number,
  error: string,
  state: 'pending' | 'escrowed',
): Promise<boolean> {
  return changed(orm, jobId, claim, {
    state,
    claim: null,
    lastError: error.slice(0, MAX_ERROR_CHARS),
    dueAt: sql`now() + ${delayMs} * interval '1 millisecond'`,
  });
}

/** Notes that the node refuses this settlement for good. */
export async function reject(
  orm: Orm,
  { jobId }: Pick<ClaimedSettlement, 'jobId'>,
  claim: string,
  error: string,
): Promise<boolean> {
  return changed(orm, jobId, claim, {
    state: 'rejected',
    claim: null,
    lastError: error.slice(0, MAX_ERROR_CHARS),
  });
}

/** Gives back claims that were not tried. */
export async function giveBack(orm: Orm, jobIds: readonly string[], claim: string): Promise<void> {
  await orm
    .update(settlements)
    .set({
      claim: null,
      attempts: sql`${settlements.attempts} - 1`,
      dueAt: sql`now()`,
      updatedAt: sql`now()`,
    })
    .where(and(inArray(settlements.jobId, [...jobIds]), eq(settlements.claim, claim)));
}

/**
 * Says how a settlement shall end, and makes it due; a rejected one is tried again.
 * @returns false when it is settled already, kept, or being tried at this moment
 */
export async function redirect(orm: Orm, jobId: string, goal: 'release' | 'refund'): Promise<boolean> {
  const rows = await orm
    .update(settlements)
    .set({
      goal,
      // Where a rejected one stood is not known, and each step may be repeated.
      state: sql`case when ${settlements.state} = 'rejected' then 'pending' else ${settlements.state} end`,
      attempts: 0,
      dueAt: sql`now()`,
      claim: null,
      updatedAt: sql`now()`,
    })
    .where(
      and(
        eq(settlements.jobId, jobId),
        inArray(settlements.state, ['pending', 'escrowed', 'rejected']),
        or(isNull(settlements.claim), sql`${settlements.dueAt} <= now()`),
      ),
    )
    .returning({ jobId: settlements.jobId });
  return rows.length > 0;
}

/** How many settlements are not settled, by state. */
export async function countOpen(orm: Orm): Promise<Record<'pending' | 'escrowed' | 'rejected', number>> {
  const rows = await orm
    .select({ state: settlements.state, count: sql<number>`count(*)::int` })
    .from(settlements)
    .where(sql`${settlements.state} in ('pending', 'escrowed', 'rejected')`)
    .groupBy(settlements.state);
  const counted = Object.fromEntries(rows.map(({ state, count }) => [state, count]));
  return { pending: 0, escrowed: 0, rejected: 0, ...counted };
}

export async function findSettlement(orm: Orm, jobId: string): Promise<SettlementRow | undefined> {
  const [row] = await orm.select().from(settlements).where(eq(settlements.jobId, jobId));
  return row;
}

/** Newest first, at most `limit`, after the cursor. */
export async function listSettlements(
  orm: Orm,
  state: SettlementState | undefined,
  after: SettlementCursor | undefined,
  limit: number,
): Promise<SettlementRow[]> {
  const conditions: (SQL | undefined)[] = [
    state === undefined ? undefined : eq(settlements.state, state),
    after === undefined
      ? undefined
      : or(
          lt(settlements.createdAt, after.createdAt),
          and(eq(settlements.createdAt, after.createdAt), lt(settlements.jobId, after.jobId)),
        ),
  ];
  return orm
    .select()
    .from(settlements)
    .where(and(...conditions))
    .orderBy(desc(settlements.createdAt), desc(settlements.jobId))
    .limit(limit);
}

type Change = Parameters<ReturnType<Orm['update']>['set']>[0];

async function changed(orm: Orm, jobId: string, claim: string, change: Change): Promise<boolean> {
  const rows = await orm
    .update(settlements)
    .set({ ...change, updatedAt: sql`now()` })
    .where(and(eq(settlements.jobId, jobId), eq(settlements.claim, claim)))
    .returning({ jobId: settlements.jobId });
  return rows.length > 0;
}
