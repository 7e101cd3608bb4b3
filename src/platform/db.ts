import { setTimeout as sleep } from 'node:timers/promises';
import { DrizzleQueryError, type SQL } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import postgres from 'postgres';
import { isPostgresUnavailable, isServerBusy, isUnreachable } from './db-errors.ts';
import { AppError, unavailable } from './errors.ts';
import type { Statement } from './statement.ts';

/**
 * Drizzle without `transaction`: a statement is the unit of work here, and what must change together changes
 * in one (a `with` clause takes several tables). postgres.js 3.4 writes its `rollback` to a socket that is
 * gone when the connection of a transaction is lost, and that error is thrown where nobody can catch it
 * (porsager/postgres#1154, #1208): a restart of Postgres would end the process.
 */
export type Orm = Omit<PostgresJsDatabase, 'transaction'>;

/** The DB_* settings, see config.ts. */
export interface DatabaseSettings {
  readonly db_dsn: string;
  readonly db_pool_max: number;
  readonly db_connect_timeout_sec: number;
  readonly db_statement_timeout_ms: number;
  readonly db_idle_timeout_sec: number;
}

/** Settings of Postgres that differ from the server's, by name. */
export type SessionSettings = Readonly<Record<string, string>>;

export interface Database {
  /**
   * Runs `work` on the pool and waits at most `budgetMs` (default: the connect plus the statement timeout).
   * Work that ran out of its budget is given up, not undone: it may still commit, so whatever is repeated
   * after a failure must be idempotent.
   * @throws AppError `unavailable` at once while Postgres is known to be away, or when the budget is spent
   */
  run<T>(work: (orm: Orm) => Promise<T>, budgetMs?: number): Promise<T>;
  /** As `run`, for one statement that each connection parses and plans only once. @returns its rows */
  query<R, V extends Record<string, unknown>>(statement: Statement<V>, values: V): Promise<R[]>;
  /** The same for one that is built with its values. Its text must always be the same: each connection keeps it. */
  queryBuilt<R>(query: SQL): Promise<R[]>;
  /** Whether Postgres answers within `timeoutMs`, also while all connections of the pool are at work. */
  ping(timeoutMs: number): Promise<boolean>;
  /** Lets running statements finish for `timeoutMs`, then closes every connection. */
  close(timeoutMs: number): Promise<void>;
}

const dialect = new PgDialect();

interface Pool {
  readonly sql: postgres.Sql;
  readonly orm: Orm;
  /** Calls without an answer yet, also those that were given up, and when each began: the oldest first. */
  readonly calls: Map<Promise<unknown>, number>;
}

/** The pool of a server that does not answer lets go of its calls after this long. */
const RETIRE_TIMEOUT_MS = 1000;

const PROBE_FIRST_DELAY_MS = 100;
const PROBE_MAX_DELAY_MS = 2000;

/** Waiting calls per connection of the pool; past it Postgres is too slow to be worth waiting for. */
const MAX_CALLS_PER_CONNECTION = 50;

/**
 * A pool that fails fast. A call that cannot reach Postgres, or spends its budget, raises the suspicion that Postgres
 * is away; a probe on a connection of its own asks. If it gets no answer, calls are refused at once until a later
 * probe (with backoff and jitter) gets one.
 *
 * The pool is replaced when that probe gets no answer; when a connection failed, because one that closed under a
 * half-written statement never writes again (porsager/postgres#1154); and when a call has waited for longer than any
 * statement may take, because its socket may be dead without knowing it (a cut network sends no FIN). A budget that
 * was merely short is no reason: the calls of others are running on that pool.
 */
class PooledDatabase implements Database {
  readonly #settings: DatabaseSettings;
  readonly #name: string;
  readonly #budgetMs: number;
  readonly #session: SessionSettings;
  #pool: Pool;
  #away = false;
  #probing = false;
  #closed = false;
  readonly #retiring = new Map<Pool, Promise<void>>();
  readonly #probes = new Set<Pool>();
  #probeTimer: NodeJS.Timeout | undefined;

  constructor(settings: DatabaseSettings, name: string, session: SessionSettings) {
    this.#settings = settings;
    this.#name = name;
    this.#session = session;
    this.#budgetMs = settings.db_connect_timeout_sec * 1000 + settings.db_statement_timeout_ms;
    this.#pool = this.#connect(settings.db_pool_max);
  }

  run<T>(work: (orm: Orm) => Promise<T>, budgetMs = this.#budgetMs): Promise<T> {
    return this.#call(({ orm }) => work(orm), budgetMs);
  }

  query<R, V extends Record<string, unknown>>({ text, bind }: Statement<V>, values: V): Promise<R[]> {
    return this.#prepared(text, bind(values));
  }

  queryBuilt<R>(query: SQL): Promise<R[]> {
    const { sql: text, params } = dialect.sqlToQuery(query);
    return this.#prepared(text, params);
  }

  #prepared<R>(text: string, values: readonly unknown[]): Promise<R[]> {
    const parameters = values as postgres.ParameterOrJSON<never>[];
    const work = async ({ sql }: Pool) => [...(await sql.unsafe(text, parameters, { prepare: true }))] as R[];
    return this.#call(work, this.#budgetMs);
  }

  async #call<T>(work: (pool: Pool) => Promise<T>, budgetMs: number): Promise<T> {
    if (this.#away || this.#closed) throw unavailable('Postgres');
    const pool = this.#pool;
    if (pool.calls.size >= this.#settings.db_pool_max * MAX_CALLS_PER_CONNECTION)
      throw unavailable('Postgres');
    const running = work(pool).finally(() => pool.calls.delete(running));
    pool.calls.set(running, performance.now());
    try {
      return await within(running, budgetMs);
    } catch (error) {
      if (isUnreachable(error)) this.#suspect(pool, error);
      // Drizzle puts the values of the statement into its message, and so into the log: key digests, whole batches.
      throw error instanceof DrizzleQueryError && error.cause !== undefined ? error.cause : error;
    }
  }

  async ping(timeoutMs: number): Promise<boolean> {
    if (this.#away || this.#closed) return false;
    // In the queue of a full pool it would tell how long the calls before it take, not whether Postgres is there.
    if (this.#pool.calls.size >= this.#settings.db_pool_max) return this.#isAnswering(timeoutMs);
    try {
      await this.run((orm) => orm.execute('select 1'), timeoutMs);
      return true;
    } catch (error) {
      if (isPostgresUnavailable(error)) return isServerBusy(error);
      throw error;
    }
  }

  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#probeTimer);
    for (const pool of [this.#pool, ...this.#retiring.keys()]) this.#retire(pool, timeoutMs);
    for (const probe of this.#probes) this.#retire(probe, 0);
    await Promise.all(this.#retiring.values());
  }

  #connect(max: number): Pool {
    const { db_dsn, db_connect_timeout_sec, db_idle_timeout_sec, db_statement_timeout_ms } = this.#settings;
    const sql = postgres(db_dsn, {
      max,
      connect_timeout: db_connect_timeout_sec,
      idle_timeout: db_idle_timeout_sec,
      backoff: () => 0, // The breaker waits between attempts; a second wait inside the pool would only hide them.
      fetch_types: false,
      onnotice: () => {},
      connection: {
        application_name: this.#name,
        // Days are those of UTC, also when an interval is added to a moment.
        TimeZone: 'UTC',
        statement_timeout: db_statement_timeout_ms,
        idle_in_transaction_session_timeout: 2 * db_statement_timeout_ms,
        ...this.#session,
      },
    });
    return { sql, orm: drizzle(sql), calls: new Map() };
  }

  #suspect(pool: Pool, error: unknown): void {
    if (this.#closed) return;
    // Replacing a slow pool is one burden more for the server: not while the last one still has calls.
    const mayBeDead = !isSpentBudget(error) || (this.#isOverdue(pool) && this.#retiring.size === 0);
    // Its other calls may be well: they keep the time that they were promised.
    if (pool === this.#pool && mayBeDead) this.#replacePool(this.#budgetMs);
    if (this.#probing) return;
    this.#probing = true;
    void this.#probe(PROBE_FIRST_DELAY_MS);
  }

  /** Whether a call has had no answer for the time of connecting and of the longest statement. */
  #isOverdue({ calls }: Pool): boolean {
    const [oldestMs = Number.POSITIVE_INFINITY] = calls.values();
    return performance.now() - oldestMs >= this.#budgetMs;
  }

  #replacePool(retireMs: number): void {
    const suspected = this.#pool;
    this.#pool = this.#connect(this.#settings.db_pool_max);
    this.#retire(suspected, retireMs);
  }

  /**
   * Closes a pool once its calls have their answers, or after `timeoutMs`. The driver's own graceful end is not used:
   * with calls still queued it opens connections anew, and nobody closes those.
   */
  #retire(pool: Pool, timeoutMs: number): void {
    const retired = (async () => {
      const answered = Promise.allSettled(pool.calls.keys());
      await Promise.race([answered, sleep(timeoutMs, undefined, { ref: false })]);
      await pool.sql.end({ timeout: 0 });
    })().finally(() => this.#retiring.delete(pool));
    this.#retiring.set(pool, retired);
  }

  /** Asks until Postgres answers; each failure doubles the wait before the next. */
  async #probe(delayMs: number): Promise<void> {
    const answers = await this.#isAnswering(this.#settings.db_connect_timeout_sec * 1000);
    if (this.#closed) return;
    if (!answers && !this.#away) this.#replacePool(RETIRE_TIMEOUT_MS);
    this.#away = !answers;
    if (answers) {
      this.#probing = false;
      return;
    }
    const jitteredMs = delayMs / 2 + (Math.random() * delayMs) / 2;
    this.#probeTimer = setTimeout(
      () => void this.#probe(Math.min(2 * delayMs, PROBE_MAX_DELAY_MS)),
      jitteredMs,
    );
    this.#probeTimer.unref();
  }

  /** Asks on a connection of its own. */
  async #isAnswering(timeoutMs: number): Promise<boolean> {
    const probe = this.#connect(1);
    this.#probes.add(probe);
    try {
      await within(probe.sql`select 1`, timeoutMs);
      return true;
    } catch (error) {
      // Any other reason is "not yet"; callers are told `unavailable` meanwhile.
      return isServerBusy(error);
    } finally {
      this.#probes.delete(probe);
      this.#retire(probe, 0);
    }
  }
}

/**
 * Opens a lazy pool: no connection is made before the first call, so a process starts while Postgres is away.
 * @param name shown as application_name in pg_stat_activity
 * @param session settings of Postgres for every connection
 */
export function connectDatabase(
  settings: DatabaseSettings,
  name: string,
  session: SessionSettings = {},
): Database {
  return new PooledDatabase(settings, name, session);
}

function isSpentBudget(error: unknown): boolean {
  return error instanceof AppError && error.cause instanceof SpentBudget;
}

class SpentBudget extends Error {
  override readonly name = 'SpentBudget';
}

async function within<T>(work: PromiseLike<T>, budgetMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const spent = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(unavailable('Postgres', new SpentBudget(`no answer within ${budgetMs} ms`))),
      budgetMs,
    );
  });
  try {
    return await Promise.race([work, spent]);
  } finally {
    clearTimeout(timer);
  }
}
