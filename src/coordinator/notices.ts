import { randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { sql } from 'drizzle-orm';
import postgres from 'postgres';
import * as v from 'valibot';
import type { Database } from '../platform/db.ts';
import { isPostgresUnavailable } from '../platform/db-errors.ts';
import type { Logger } from '../platform/logger.ts';
import { statement } from '../platform/statement.ts';
import { JOB_STATES } from './jobs/states.ts';
import type { JobView } from './jobs/view.ts';
import type { JobNeeds } from './miners/fit.ts';

/** A job that changed its state, as every replica is told. */
export interface JobChange {
  readonly kind: 'change';
  readonly client_id: string;
  /** Counts the changes of the job, from 1. */
  readonly revision: number;
  readonly job: JobView;
}

/** A job that may be taken now, by the miners it is offered to, or by any that fits when there are none. */
export interface JobWaiting {
  readonly kind: 'waiting';
  readonly job_id: string;
  readonly needs: JobNeeds;
  /** Best first. */
  readonly offered: readonly string[];
}

export type Notice = JobChange | JobWaiting;

/** What one NOTIFY carries: the replica that sends it, and its notices. */
const Payload = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ from: v.string(), notices: v.array(v.unknown()) }),
);

const TextOrNull = v.nullable(v.string());
const NumberOrNull = v.nullable(v.number());

/** A notice as it comes. Another version may send what this one does not know, and so may anybody who has this database. */
const NoticeMessage: v.GenericSchema<unknown, Notice> = v.variant('kind', [
  v.object({
    kind: v.literal('change'),
    client_id: v.string(),
    revision: v.number(),
    job: v.object({
      job_id: v.string(),
      state: v.picklist(JOB_STATES),
      assigned_miner_id: TextOrNull,
      requested_at: v.string(),
      expires_at: v.string(),
      error: v.nullable(v.object({ code: v.string(), message: v.string() })),
    }),
  }),
  v.object({
    kind: v.literal('waiting'),
    job_id: v.string(),
    needs: v.object({
      gpu: TextOrNull,
      cuda: NumberOrNull,
      vram_mb: NumberOrNull,
      models: v.nullable(v.array(v.string())),
      region: TextOrNull,
      max_price: TextOrNull,
    }),
    offered: v.array(v.string()),
  }),
]);

interface NoticeEvents {
  change: [JobChange];
  waiting: [JobWaiting];
  /** Notices may have been lost: what matters is to be read again. */
  resync: [];
}

const CHANNEL = 'coordinator_notices';

const notify = statement<{ payloads: string }>(
  sql`select pg_notify(${sql.raw(`'${CHANNEL}'`)}, payload) from jsonb_array_elements_text(${sql.placeholder('payloads')}::jsonb) as notices (payload)`,
);

/** Postgres takes payloads below 8,000 bytes. */
const MAX_PAYLOAD_BYTES = 7_900;
/** The rest of a payload is what says whom it is from. */
const MAX_NOTICE_BYTES = MAX_PAYLOAD_BYTES - 100;
/** A statement sends this many payloads at most. */
const MAX_PAYLOADS = 64;
/** Notices of so many milliseconds go together. */
const GATHER_MS = 2;
/** More than this is not kept while Postgres is away: whoever listens reads anew after that anyway. */
const MAX_WAITING = 10_000;
const RECONNECT_MAX_SEC = 2;

/**
 * Tells all replicas of changes, over LISTEN and NOTIFY. A notice is sent after the change is committed, in a statement of its own that carries
 * many: a NOTIFY inside the change would hold the one lock of all notifying commits during its flush to disk. A notice may be lost, with its
 * process at the latest: waiting jobs are found by the sweep, changes by streams that read again after `resync` and now and then.
 */
export class Notices extends EventEmitter<NoticeEvents> {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #dsn: string;
  readonly #origin = randomUUID();
  #waiting: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  /** A change was not told since the last `resync`. */
  #hasLost = false;
  #listener: postgres.Sql | undefined;

  constructor(dsn: string, db: Database, log: Logger) {
    super();
    this.setMaxListeners(0);
    this.#dsn = dsn;
    this.#db = db;
    this.#log = log;
  }

  /** Begins to listen, on a connection of its own, and goes on through every outage until `close`. */
  listen(): void {
    if (this.#listener !== undefined) return;
    const listener = postgres(this.#dsn, {
      max: 1,
      fetch_types: false,
      onnotice: () => {},
      backoff: (attempt) => (Math.min(RECONNECT_MAX_SEC, 0.1 * 2 ** attempt) * (1 + Math.random())) / 2,
      connection: { application_name: 'coordinator-listen' },
    });
    this.#listener = listener;
    let first = true;
    const listening = () => {
      if (!first) this.#log.info('listening to Postgres again');
      first = false;
      this.emit('resync');
    };
    void this.#keepListening(listener, listening);
  }

  /**
   * Sends soon, together with others. A notice that cannot be sent is dropped. This replica hears of a waiting job at once; of changes in the
   * order in which all do.
   */
  publish(notice: Notice): void {
    if (notice.kind === 'waiting') this.emit('waiting', notice);
    const text = JSON.stringify(notice);
    // One that no payload has room for would take the others of its statement with it.
    const fits = Buffer.byteLength(text) <= MAX_NOTICE_BYTES;
    if (fits && this.#waiting.length < MAX_WAITING) this.#waiting.push(text);
    else if (notice.kind === 'change') this.#hasLost = true;
    this.#timer ??= setTimeout(() => void this.#flush(), GATHER_MS);
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#flush();
    await this.#listener?.end({ timeout: 0 });
    this.removeAllListeners();
  }

  /** The driver listens again after a lost connection, but not when its very first attempt fails. */
  async #keepListening(listener: postgres.Sql, listening: () => void): Promise<void> {
    for (let attempt = 0; this.#listener === listener; attempt += 1) {
      try {
        await listener.listen(CHANNEL, (payload) => this.#receive(payload), listening);
        return;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'CONNECTION_ENDED' || code === 'CONNECTION_DESTROYED') return;
        if (attempt === 0) this.#log.warn({ err: error }, 'not listening to Postgres yet');
        await new Promise((resolve) => setTimeout(resolve, RECONNECT_MAX_SEC * 1000 * Math.random()));
      }
    }
  }

  #receive(payload: string): void {
    const { from, notices } = this.#read(Payload, payload) ?? { from: '', notices: [] };
    for (const message of notices) {
      const notice = this.#read(NoticeMessage, message);
      if (notice?.kind === 'change') this.emit('change', notice);
      else if (notice?.kind === 'waiting' && from !== this.#origin) this.emit('waiting', notice);
    }
  }

  #read<T>(schema: v.GenericSchema<unknown, T>, message: unknown): T | undefined {
    const read = v.safeParse(schema, message);
    if (read.success) return read.output;
    this.#log.warn('unreadable notice');
    return undefined;
  }

  async #flush(): Promise<void> {
    this.#timer = undefined;
    if (this.#sending !== undefined) return this.#sending;
    this.#sending = this.#send().finally(() => {
      this.#sending = undefined;
    });
    return this.#sending;
  }

  async #send(): Promise<void> {
    while (this.#waiting.length > 0) {
      const payloads = this.#takePayloads();
      try {
        await this.#db.query(notify, { payloads: JSON.stringify(payloads) });
      } catch (error) {
        if (!isPostgresUnavailable(error)) this.#log.error({ err: error }, 'notices not sent');
        this.#waiting = [];
        this.#hasLost = true;
      }
    }
    if (!this.#hasLost) return;
    this.#hasLost = false;
    this.emit('resync');
  }

  /** As many notices as one statement carries, as JSON of Payload. */
  #takePayloads(): string[] {
    const payloads: string[] = [];
    let batch: string[] = [];
    const head = `{"from":"${this.#origin}","notices":[`;
    const wrap = (notices: readonly string[]) => `${head}${notices.join(',')}]}`;
    const emptyBytes = wrap([]).length;
    let bytes = emptyBytes;
    let taken = 0;
    for (const notice of this.#waiting) {
      const size = Buffer.byteLength(notice) + 1;
      if (batch.length > 0 && bytes + size > MAX_PAYLOAD_BYTES) {
        payloads.push(wrap(batch));
        if (payloads.length === MAX_PAYLOADS) break;
        batch = [];
        bytes = emptyBytes;
      }
      batch.push(notice);
      bytes += size;
      taken += 1;
    }
    if (payloads.length < MAX_PAYLOADS && batch.length > 0) payloads.push(wrap(batch));
    this.#waiting = this.#waiting.slice(taken);
    return payloads;
  }
}
