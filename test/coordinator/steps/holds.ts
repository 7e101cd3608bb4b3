import postgres from 'postgres';
import type { Harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';

/** A row that a statement is stopped at, in the middle of it: before the row is written. */
export interface RowHold {
  readonly table: string;
  readonly on: 'INSERT' | 'UPDATE' | 'DELETE';
  /** Columns and values of the row: the new one, of a DELETE the old one. */
  readonly row: Readonly<Record<string, unknown>>;
  /** A column that the statement must change. */
  readonly changed?: string;
}

/** First part of the keys of the advisory locks. */
const LOCK_CLASS = 4711;

const TABLES = [
  'coordinator.jobs',
  'coordinator.job_offers',
  'coordinator.miners',
  'coordinator.receipts',
  'coordinator.settlements',
  'coordinator.usage_records',
  'coordinator.hub_outbox',
  'coordinator.invoices',
];

/**
 * Stops statements of other processes from outside: a trigger on each table looks whether a row is to be held, and waits for an advisory lock that
 * this test has. What waits there is seen in pg_locks, and ends as the test wants: undone or committed.
 */
export class Holds {
  readonly #sql: postgres.Sql;
  /** Advisory locks belong to a connection. */
  readonly #locks: postgres.Sql;

  private constructor(sql: postgres.Sql, locks: postgres.Sql) {
    this.#sql = sql;
    this.#locks = locks;
  }

  /** @param tables with their schemas; those of the coordinator without it */
  static async open(h: Harness, tables: readonly string[] = TABLES): Promise<Holds> {
    const sql = postgres(await h.db(), { max: 1, onnotice: () => {} });
    const locks = postgres(await h.db(), { max: 1, idle_timeout: 0 });
    h.cleanup(() => Promise.all([sql.end(), locks.end()]));
    await sql.unsafe(`
      create table public.holds (id int generated always as identity, tbl text, op text, part jsonb, changed text);
      create function public.hold_row() returns trigger language plpgsql as $$
      declare
        was jsonb := case when tg_op = 'INSERT' then '{}' else to_jsonb(old) end;
        now_is jsonb := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
        hold record;
      begin
        for hold in select id from public.holds where tbl = tg_table_name and op = tg_op and now_is @> part
            and (changed is null or was -> changed is distinct from now_is -> changed) loop
          perform pg_advisory_xact_lock_shared(${LOCK_CLASS}, hold.id);
        end loop;
        return case when tg_op = 'DELETE' then old else new end;
      end $$;
      ${tables
        .map(
          (table) => `create trigger hold_row before insert or update or delete on ${table}
          for each row execute function public.hold_row();`,
        )
        .join('\n')}`);
    return new Holds(sql, locks);
  }

  /** Stops every statement that comes to this row from now on. @returns the hold, for `reached` */
  async add({ table, on, row, changed }: RowHold): Promise<number> {
    const [added] = await this.#sql<{ id: number }[]>`
      insert into public.holds (tbl, op, part, changed)
      values (${table}, ${on}, ${JSON.stringify(row)}::text::jsonb, ${changed ?? null}) returning id`;
    const id = added?.id as number;
    await this.#locks`select pg_advisory_lock(${LOCK_CLASS}, ${id})`;
    return id;
  }

  /** Waits until a statement stands at the hold. */
  async reached(id: number, what: string): Promise<void> {
    await waitFor(async () => (await this.#waiting()).some(({ hold }) => hold === id), {
      timeoutMs: 30_000,
      what,
    });
  }

  /**
   * Ends all holds, once the process whose statements they are is dead.
   * @param fate of the statements: Postgres undoes them, or commits them without anybody who hears of it
   */
  async end(fate: 'undone' | 'committed'): Promise<void> {
    const pids = (await this.#waiting()).map(({ pid }) => pid);
    await this.#sql`delete from public.holds`;
    if (fate === 'undone') await this.#sql`select pg_terminate_backend(pid) from unnest(${pids}::int[]) pid`;
    else await this.#locks`select pg_advisory_unlock_all()`;
    await waitFor(async () => {
      const [left] = await this.#sql<{ n: number }[]>`
        select count(*)::int as n from pg_stat_activity where pid = any(${pids}::int[])`;
      return left?.n === 0;
    });
    if (fate === 'undone') await this.#locks`select pg_advisory_unlock_all()`;
  }

  async #waiting() {
    return this.#sql<{ hold: number; pid: number }[]>`
      select objid::int as hold, pid from pg_locks
      where locktype = 'advisory' and classid = ${LOCK_CLASS} and not granted
        and database = (select oid from pg_database where datname = current_database())`;
  }
}
