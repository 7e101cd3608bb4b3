import type { Context } from 'hono';
import { type SSEStreamingApi, streamSSE } from 'hono/streaming';
import type { AppEnv } from '../../platform/app-env.ts';
import { isPostgresUnavailable } from '../../platform/db-errors.ts';
import type { CoordinatorDeps } from '../deps.ts';
import type { JobChange } from '../notices.ts';
import { isTerminal } from './states.ts';
import { findJob } from './store.ts';
import { type JobView, type ViewRow, viewOf } from './view.ts';

type StreamDeps = Pick<CoordinatorDeps, 'config' | 'db' | 'notices' | 'streams' | 'log'>;

/**
 * Streams a job to its client: its state now, then every change, until it is over, the client goes or the process stops. The id of an event is
 * the number of the change. Changes of which no notice came are made up for by the state as it is at the next sign of life.
 * With `Last-Event-ID`, which a client sends that comes back, it begins after that change; when there will be nothing after it, the answer
 * is 204, which tells browsers not to come back any more.
 */
export function streamJob(c: Context<AppEnv>, deps: StreamDeps, row: ViewRow): Response {
  const told = Math.min(lastEventOf(c), row.revision);
  if (isTerminal(row.state) && row.revision <= told) return c.body(null, 204);
  // Nobody reads the body of HEAD, nor hangs up on it.
  if (c.req.method === 'HEAD') return c.body(null, 200, { 'Content-Type': 'text/event-stream' });
  deps.streams.admit(row.client_id);
  c.header('X-Accel-Buffering', 'no');
  return streamSSE(c, async (stream) => {
    const feed = new JobFeed(deps, stream, row, told);
    const leave = deps.streams.join(row.client_id, () => feed.end());
    stream.onAbort(() => feed.end());
    try {
      await feed.run();
    } finally {
      leave();
    }
  });
}

/** What one stream has told and is yet to tell. Changes are told in order, each once. */
class JobFeed {
  readonly #deps: StreamDeps;
  readonly #stream: SSEStreamingApi;
  readonly #jobId: string;
  readonly #clientId: string;
  #told: number;
  #tail: Promise<void> = Promise.resolve();
  #isWriting = false;
  #finish: () => void = () => {};
  readonly #finished = new Promise<void>((resolve) => {
    this.#finish = resolve;
  });

  constructor(deps: StreamDeps, stream: SSEStreamingApi, { job_id, client_id }: ViewRow, told: number) {
    this.#deps = deps;
    this.#stream = stream;
    this.#jobId = job_id;
    this.#clientId = client_id;
    this.#told = told;
  }

  async run(): Promise<void> {
    const { notices, config } = this.#deps;
    const changed = (change: JobChange) => {
      if (change.job.job_id === this.#jobId) this.#queue(() => this.#tell(change.revision, change.job));
    };
    const reread = () => this.#queue(() => this.#read());
    const alive = setInterval(() => this.#showLife(), config.stream_keep_alive_sec * 1000);
    notices.on('change', changed);
    notices.on('resync', reread);
    // After the listeners are in place: what changes from here on is told by one or the other.
    reread();
    try {
      await this.#finished;
      await this.#tail;
    } finally {
      clearInterval(alive);
      notices.off('change', changed);
      notices.off('resync', reread);
    }
  }

  end(): void {
    this.#finish();
  }

  #queue(work: () => Promise<void>): void {
    this.#tail = this.#tail.then(work).catch((error: unknown) => {
      this.#deps.log.debug({ err: error }, 'an event stream ends');
      this.end();
    });
  }

  /** Nothing for a reader that has not taken the last one yet. */
  #showLife(): void {
    if (this.#isWriting) return;
    this.#isWriting = true;
    this.#queue(async () => {
      await this.#stream.write(': \n\n');
      await this.#read();
      this.#isWriting = false;
    });
  }

  /** Tells the state as it is; while Postgres is away, the next time. */
  async #read(): Promise<void> {
    try {
      const row = await this.#deps.db.run((orm) => findJob(orm, this.#clientId, this.#jobId));
      if (row === undefined) this.end();
      else await this.#tell(row.revision, viewOf(row));
    } catch (error) {
      if (!isPostgresUnavailable(error)) throw error;
    }
  }

  async #tell(revision: number, job: JobView): Promise<void> {
    if (revision <= this.#told) return;
    this.#told = revision;
    await this.#stream.writeSSE({ event: 'job', id: String(revision), data: JSON.stringify(job) });
    if (isTerminal(job.state)) this.end();
  }
}

/** The number of the last change that the client knows; 0 for none, or for an id that is none of ours. */
function lastEventOf(c: Context<AppEnv>): number {
  const id = c.req.header('last-event-id') ?? '';
  return /^\d{1,9}$/.test(id) ? Number(id) : 0;
}
