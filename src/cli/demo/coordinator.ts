import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../../sdk/errors.ts';
import type { HubClient } from '../../sdk/hub-client.ts';
import type { Candidate, FeedbackRequest, MatchAnswer } from '../../sdk/types.ts';
import { Latencies, type LatencySummary } from '../latency.ts';
import { type Random, seededRandom } from '../random.ts';
import type { Simulation } from '../simulation.ts';
import { nextAsk } from './job-mix.ts';

export interface DemoCoordinatorOptions {
  readonly client: HubClient;
  readonly simulation: Simulation;
  readonly matchesPerSec: number;
  readonly seed: number;
}

/** `released`: the best candidate was left over from a demo that was killed, so nobody could be handed the job. */
type Ending = 'completed' | 'failed' | 'rejected' | 'released' | 'no_candidate';

export interface CoordinatorTotals {
  readonly matches: number;
  readonly match_latency: LatencySummary;
  readonly recent_match_latency: LatencySummary;
  readonly in_flight: number;
  readonly endings: Readonly<Record<Ending, number>>;
  /** Calls that failed, by code. */
  readonly errors: Readonly<Record<string, number>>;
  /** What the last match found, and why. */
  readonly last: string;
  readonly why: string;
}

/** Carried by the simulated miners and asked for with every job: other miners of the pool are not given made-up work. */
export const DEMO_TAG = 'demo';

/** Past this many jobs the coordinator waits with new ones: the hub or the miners are slower than it asks. */
const MAX_IN_FLIGHT = 400;

/** A place is held long enough for the miner to be asked. */
const RESERVE_MS = 10_000;

/** A job takes so many times the latency of its miner. */
const JOB_FACTOR = { min: 5, max: 25 };
const FAIL_CODES = ['out_of_memory', 'timeout', 'network'] as const;

/**
 * Stands in for a coordinator and the way its jobs take: asks for a miner with a place held on it, hands it the job, and tells the hub how
 * it went. The miners are those of a simulation in the same process.
 */
export class DemoCoordinator {
  readonly #options: DemoCoordinatorOptions;
  readonly #random: Random;
  readonly #latencies = new Latencies();
  readonly #endings: Record<Ending, number> = {
    completed: 0,
    failed: 0,
    rejected: 0,
    released: 0,
    no_candidate: 0,
  };
  readonly #errors = new Map<string, number>();
  readonly #stopping = new AbortController();
  readonly #jobs = new Set<Promise<void>>();
  #matches = 0;
  #last = '';
  #why = '';

  constructor(options: DemoCoordinatorOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed, 1);
    // Every job listens while it waits, for an answer or for its end.
    setMaxListeners(MAX_IN_FLIGHT + 1, this.#stopping.signal);
  }

  totals(): CoordinatorTotals {
    return {
      matches: this.#matches,
      match_latency: this.#latencies.total(),
      recent_match_latency: this.#latencies.recent(),
      in_flight: this.#jobs.size,
      endings: { ...this.#endings },
      errors: Object.fromEntries(this.#errors),
      last: this.#last,
      why: this.#why,
    };
  }

  /** Starts jobs at the asked rate, at random moments (a Poisson process), until `stop`. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      if (this.#jobs.size < MAX_IN_FLIGHT) this.#begin();
      const gapMs = (-Math.log(1 - this.#random()) * 1000) / this.#options.matchesPerSec;
      await sleep(gapMs, undefined, { signal }).catch(() => {}); // Rejects for `stop` alone.
    }
    await Promise.all(this.#jobs);
  }

  /** Starts no more jobs and breaks those off that run; `run` comes back then. */
  stop(): void {
    this.#stopping.abort();
  }

  #begin(): void {
    const job = this.#job().catch((error: unknown) => {
      if (this.#stopping.signal.aborted) return;
      if (!(error instanceof HubError)) throw error;
      this.#errors.set(error.code, (this.#errors.get(error.code) ?? 0) + 1);
    });
    this.#jobs.add(job);
    void job.finally(() => this.#jobs.delete(job));
  }

  async #job(): Promise<void> {
    const answer = await this.#match();
    const best = answer.candidates.find(({ reservation_id }) => reservation_id !== undefined);
    if (best === undefined) {
      this.#endings.no_candidate += 1;
      this.#last = 'no candidate';
      this.#why = answer.explain;
      return;
    }
    this.#last = `${best.miner_id} at ${best.price}, score ${best.score.toFixed(3)}, best of ${answer.feasible}`;
    this.#why = best.explain;
    await this.#offer(answer.job_id, best);
  }

  async #match(): Promise<MatchAnswer> {
    const { client } = this.#options;
    const { requirements, hints } = nextAsk(this.#random);
    const request = {
      job_id: randomUUID(),
      requirements: { ...requirements, tags_all: [DEMO_TAG] },
      hints,
      top_k: 3,
      reserve: { count: 1, ttl_ms: RESERVE_MS },
    };
    const startedMs = performance.now();
    const answer = await client.match(request, { signal: this.#stopping.signal });
    this.#latencies.record(performance.now() - startedMs);
    this.#matches += 1;
    return answer;
  }

  async #offer(job_id: string, { miner_id, reservation_id }: Candidate): Promise<void> {
    const { client, simulation } = this.#options;
    const found = simulation.miners.get(miner_id);
    if (found === undefined) {
      if (reservation_id !== undefined) await client.releaseReservation(reservation_id);
      this.#endings.released += 1;
      return;
    }
    const report = { job_id, miner_id, ...(reservation_id === undefined ? {} : { reservation_id }) };
    if (this.#random() < found.traits.rejection_rate || !found.miner.takeJob()) {
      await this.#tell({ ...report, outcome: 'rejected' });
      this.#endings.rejected += 1;
      return;
    }
    try {
      await this.#tell({ ...report, outcome: 'accepted' });
      const { min, max } = JOB_FACTOR;
      const latency_ms = Math.round(found.traits.latency_ms * (min + (max - min) * this.#random()));
      await sleep(latency_ms, undefined, { signal: this.#stopping.signal });
      const failed = this.#random() < found.traits.failure_rate;
      const fail_code = FAIL_CODES[Math.floor(this.#random() * FAIL_CODES.length)] as string;
      const ending = failed
        ? ({ outcome: 'failed', fail_code } as const)
        : ({ outcome: 'completed' } as const);
      await this.#tell({ ...report, ...ending, latency_ms });
      this.#endings[ending.outcome] += 1;
    } finally {
      found.miner.endJob();
    }
  }

  async #tell(feedback: FeedbackRequest): Promise<void> {
    await this.#options.client.feedback(feedback, { signal: this.#stopping.signal });
  }
}
