import { HubClient } from '../../sdk/hub-client.ts';
import type { FeedbackRequest, MatchAnswer, MatchRequest } from '../../sdk/types.ts';
import type { CoordinatorConfig } from '../environment.ts';

/** Calls under way at a time, of each kind; what is more waits, and is dropped past the second number. */
const MAX_CALLS = 32;
const MAX_WAITING = 1000;

/** After a call without an answer, for how long the hub is not asked for miners. */
const PAUSE_MS = 1000;

type HubSettings = Pick<
  CoordinatorConfig,
  'poolhub_url' | 'poolhub_secret' | 'coordinator_shared_secret' | 'poolhub_timeout_ms'
>;

/** The pool hub as the coordinator uses it. No call is tried twice here: a match that is late is of no use, and the outbox repeats reports. */
export class Hub {
  readonly #client: HubClient;
  readonly #waiting: string[] = [];
  readonly #ending = new AbortController();
  #matches = 0;
  #releases = 0;
  #pausedUntilMs = 0;

  constructor(client: HubClient) {
    this.#client = client;
  }

  /** Whether a job should wait for the hub's answer: not while it does not answer, nor when too many wait already. */
  isWorthAsking(): boolean {
    return performance.now() >= this.#pausedUntilMs && this.#matches < MAX_CALLS;
  }

  /** @throws HubError, or an AbortError once stopped */
  async match(request: MatchRequest): Promise<MatchAnswer> {
    this.#matches += 1;
    try {
      return await this.#client.match(request, { signal: this.#ending.signal });
    } catch (error) {
      if (isNoAnswer(error)) this.#pausedUntilMs = performance.now() + PAUSE_MS;
      throw error;
    } finally {
      this.#matches -= 1;
    }
  }

  /** @throws HubError, or an AbortError once stopped */
  feedback(feedback: FeedbackRequest): Promise<unknown> {
    return this.#client.feedback(feedback, { signal: this.#ending.signal });
  }

  get isStopped(): boolean {
    return this.#ending.signal.aborted;
  }

  /** Gives up every call, so that a process that stops waits for no hub: what matters is in the outbox. */
  stop(): void {
    this.#ending.abort();
    this.#waiting.length = 0;
  }

  /**
   * Lets go of places that are needed no more. As far as it gets: a place that is not let go frees itself when its
   * reservation expires, soon after the offer.
   */
  release(reservationIds: readonly string[]): void {
    for (const id of reservationIds) if (this.#waiting.length < MAX_WAITING) this.#waiting.push(id);
    while (this.#releases < MAX_CALLS && this.#waiting.length > 0) void this.#releaseNext();
  }

  async #releaseNext(): Promise<void> {
    const id = this.#waiting.shift();
    if (id === undefined) return;
    this.#releases += 1;
    // Whatever the reason it failed for, the reservation is over soon.
    await this.#client.releaseReservation(id, { signal: this.#ending.signal }).catch(() => undefined);
    this.#releases -= 1;
    this.release([]);
  }
}

/** @returns undefined when no POOLHUB_URL is set */
export function createHub(config: HubSettings): Hub | undefined {
  const {
    poolhub_url: urls,
    poolhub_secret,
    coordinator_shared_secret,
    poolhub_timeout_ms: timeoutMs,
  } = config;
  if (urls === undefined) return undefined;
  const coordinatorSecret = poolhub_secret ?? coordinator_shared_secret?.[0];
  return new Hub(new HubClient({ urls, coordinatorSecret, timeoutMs, maxAttempts: 1 }));
}

function isNoAnswer(error: unknown): boolean {
  return error instanceof Error && 'status' in error && (error.status === 0 || error.status === 503);
}
