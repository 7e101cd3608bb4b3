import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fullJitterMs } from '../../sdk/backoff.ts';
import type { CoordinatorClient } from '../../sdk/coordinator-client.ts';
import type { AssignedJob, MinerRegistration } from '../../sdk/coordinator-types.ts';
import { HubError } from '../../sdk/errors.ts';
import { JobFailure, runBuiltIn } from './built-in-jobs.ts';

export interface JobWorkerOptions {
  readonly client: CoordinatorClient;
  readonly registration: MinerRegistration;
  /** While it drains, it asks for no jobs; one that comes all the same is done. */
  readonly isDraining: () => boolean;
  readonly onStart: () => void;
  readonly onEnd: () => void;
  /** News for a log. */
  readonly say: (event: string, fields: Record<string, unknown>) => void;
  /** Seconds a poll may be held (20). */
  readonly pollSec?: number;
  /** Milliseconds between signs of life (5,000). */
  readonly beatMs?: number;
}

const DEFAULT_POLL_SEC = 20;
const DEFAULT_BEAT_MS = 5_000;
const BACKOFF = { baseMs: 250, capMs: 15_000 };
/** How often a miner that drains looks whether it still does. */
const DRAINING_MS = 250;
/** For the last call, which gives jobs back. */
const FAREWELL_MS = 2_000;

interface RunningJob {
  readonly jobId: string;
  /** Ends the job without a result. */
  readonly stopping: AbortController;
}

/** A miner's life with the coordinator: registers, says that it lives, polls on each of its places, does built-in jobs and delivers. */
export class JobWorker {
  readonly #options: JobWorkerOptions;
  /** Ends polls. */
  readonly #leaving = new AbortController();
  /** Ends the signs of life, which go on while jobs do. */
  readonly #ending = new AbortController();
  /** Breaks jobs off. */
  readonly #breaking = new AbortController();
  #session: string | undefined;
  #registering: Promise<string> | undefined;
  readonly #running = new Set<RunningJob>();

  constructor(options: JobWorkerOptions) {
    this.#options = options;
  }

  /**
   * Runs until `leave`, then until the jobs it has are done or broken off. Call it once.
   * @throws HubError when the coordinator refuses the miner for good
   */
  async run(): Promise<void> {
    const places = this.#options.registration.concurrency ?? 1;
    // Every place listens while it polls or works, and the registration does.
    setMaxListeners(places + 2, this.#leaving.signal);
    const polls = Promise.all(Array.from({ length: places }, () => this.#polls()));
    const loops = [this.#beats(), polls.finally(() => this.#ending.abort())];
    try {
      await Promise.all(loops);
    } finally {
      this.leave();
      this.breakOff();
      this.#ending.abort();
      await Promise.allSettled(loops);
    }
    await this.#farewell();
  }

  /** Takes no more jobs. */
  leave(): void {
    this.#leaving.abort();
  }

  /** Breaks off the jobs it has; the coordinator gives them to others. */
  breakOff(): void {
    this.#breaking.abort();
    for (const { stopping } of this.#running) stopping.abort();
  }

  async #polls(): Promise<void> {
    const { client, pollSec = DEFAULT_POLL_SEC, isDraining } = this.#options;
    const { signal } = this.#leaving;
    await this.#persist(signal, async () => {
      if (isDraining()) {
        await sleep(DRAINING_MS, undefined, { signal });
        return;
      }
      const session = await this.#register();
      const job = await this.#inSession(session, () => client.poll(session, pollSec, { signal }));
      if (job !== undefined) await this.#do(session, job);
    });
  }

  async #beats(): Promise<void> {
    const { client, beatMs = DEFAULT_BEAT_MS } = this.#options;
    const { signal } = this.#ending;
    await this.#persist(signal, async () => {
      const isLeaving = this.#leaving.signal.aborted;
      const session = isLeaving ? this.#session : await this.#register();
      if (session !== undefined) {
        // Draining and idle it would give back a job that is on its way to it.
        const status = isLeaving && this.#running.size > 0 ? 'DRAINING' : 'ONLINE';
        const current_jobs = [...this.#running].map(({ jobId }) => jobId);
        const beat = { inflight: this.#running.size, status, current_jobs };
        const answer = await this.#inSession(session, () => client.beat(session, beat, { signal }));
        const canceled = new Set(answer.canceled_jobs);
        for (const { jobId, stopping } of this.#running) if (canceled.has(jobId)) stopping.abort();
      }
      await sleep(beatMs * (0.9 + Math.random() / 5), undefined, { signal });
    });
  }

  /** Repeats a step until the signal, with backoff while the coordinator is away. */
  async #persist(signal: AbortSignal, step: () => Promise<void>): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        await step();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        // A registration that `leave` has ended.
        if ((error as Error).name === 'AbortError' && this.#leaving.signal.aborted) continue;
        if (!(error instanceof HubError) || error.isFinal) throw error;
        const waitMs = Math.max(fullJitterMs(failures, BACKOFF), error.retryAfterMs ?? 0);
        failures += 1;
        const fields = { reason: error.message, retry_in_ms: Math.round(waitMs) };
        this.#options.say('coordinator_interrupted', fields);
        await sleep(waitMs, undefined, { signal }).catch(() => {}); // Rejects for the signal alone.
      }
    }
  }

  /** The session; all loops share one registration, because each takes the jobs of the one before back. */
  async #register(): Promise<string> {
    if (this.#session !== undefined) return this.#session;
    this.#registering ??= this.#registerOnce();
    return this.#registering;
  }

  async #registerOnce(): Promise<string> {
    const { client, registration, say } = this.#options;
    try {
      this.#session = await client.registerMiner(registration, { signal: this.#leaving.signal });
      say('coordinator_registered', { concurrency: registration.concurrency });
      return this.#session;
    } finally {
      this.#registering = undefined;
    }
  }

  /** Does a call of the session, and forgets the session when the coordinator has. */
  async #inSession<T>(session: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      const isUnknown = error instanceof HubError && error.code === 'session_unknown';
      // Another loop may have registered anew meanwhile.
      if (isUnknown && this.#session === session) this.#session = undefined;
      throw error;
    }
  }

  async #do(session: string, { job_id, payload }: AssignedJob): Promise<void> {
    const { onStart, onEnd, say } = this.#options;
    const running = { jobId: job_id, stopping: new AbortController() };
    this.#running.add(running);
    onStart();
    say('job_started', { job_id, type: payload.type });
    const startedMs = performance.now();
    const metricsNow = () => ({ duration_ms: Math.round(performance.now() - startedMs) });
    try {
      const outcome = await this.#outcome(payload, running.stopping.signal);
      const metrics = metricsNow();
      if (outcome === undefined)
        say(this.#breaking.signal.aborted ? 'job_broken_off' : 'job_canceled', { job_id });
      else if (outcome instanceof JobFailure) {
        const report = { error_code: outcome.code, error_message: outcome.message, metrics };
        await this.#options.client.fail(session, job_id, report);
        say('job_failed', { job_id, error_code: outcome.code });
      } else {
        await this.#options.client.deliver(session, job_id, { result: outcome, metrics });
        say('job_completed', { job_id, ...metrics });
      }
    } catch (error) {
      // Canceled or expired meanwhile, given to another, or delivered by a call whose answer got lost; else the coordinator is away for longer
      // than the calls are repeated, and gives the job to another when it is back.
      if (!(error instanceof HubError)) throw error;
      say('job_not_taken', { job_id, reason: error.message });
    } finally {
      this.#running.delete(running);
      onEnd();
    }
  }

  /** @returns the result or why there is none; undefined when it was stopped */
  async #outcome(
    payload: AssignedJob['payload'],
    signal: AbortSignal,
  ): Promise<Record<string, unknown> | JobFailure | undefined> {
    try {
      return await runBuiltIn(payload, signal);
    } catch (error) {
      if (error instanceof JobFailure) return error;
      if (signal.aborted) return undefined;
      throw error;
    }
  }

  /** Gives back what was broken off. As far as it gets: the jobs of a miner that falls silent go to others anyway. */
  async #farewell(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    try {
      const signal = AbortSignal.timeout(FAREWELL_MS);
      await this.#options.client.beat(session, { inflight: 0, status: 'DRAINING' }, { signal });
    } catch (error) {
      this.#options.say('coordinator_farewell_failed', { reason: (error as Error).message });
    }
  }
}
