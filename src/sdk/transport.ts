import { setTimeout as sleep } from 'node:timers/promises';
import { type BackoffLimits, fullJitterMs } from './backoff.ts';
import { errorFromAnswer, HubError } from './errors.ts';

export interface TransportOptions {
  /** Base URLs of the hub or its replicas; the next one is taken when one cannot be reached. */
  readonly urls: readonly string[];
  /** Milliseconds one attempt may take, connection and body included (5,000). */
  readonly timeoutMs?: number;
  /** Attempts of one call at most, the first included (4). */
  readonly maxAttempts?: number;
  readonly backoff?: BackoffLimits;
  /** A Retry-After longer than this, in ms, fails the call instead of being waited for (10,000). */
  readonly maxRetryAfterMs?: number;
}

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Path and query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** JSON that is sent as it is, instead of `body`: written anew its numbers could have other digits. */
  readonly bodyText?: string;
  /** Doing it twice is the same as doing it once, so a call whose answer was lost may be sent again. */
  readonly idempotent: boolean;
  /** Statuses beside 2xx whose body is an answer, not an error. */
  readonly answers?: readonly number[];
  /** Milliseconds this call may take, for one that the server holds; else those of the transport. */
  readonly timeoutMs?: number;
  /** Headers that depend on the body as it is sent; asked at each attempt. */
  readonly sign?: (bodyText: string) => Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_MAX_ATTEMPTS = 4;
const DEFAULT_BACKOFF: BackoffLimits = { baseMs: 100, capMs: 2_000 };
const DEFAULT_MAX_RETRY_AFTER_MS = 10_000;

/** Sends calls over fetch: a deadline for each attempt, retries where they can do no harm, a list of replicas to move along. */
export class Transport {
  readonly timeoutMs: number;
  readonly #urls: readonly string[];
  readonly #maxAttempts: number;
  readonly #backoff: BackoffLimits;
  readonly #maxRetryAfterMs: number;
  #current = 0;

  constructor(options: TransportOptions) {
    if (options.urls.length === 0) throw new TypeError('a hub client needs a URL');
    this.#urls = options.urls.map((url) => new URL(url).href.replace(/\/+$/, ''));
    this.timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#maxAttempts = options.maxAttempts ?? DEFAULT_MAX_ATTEMPTS;
    this.#backoff = options.backoff ?? DEFAULT_BACKOFF;
    this.#maxRetryAfterMs = options.maxRetryAfterMs ?? DEFAULT_MAX_RETRY_AFTER_MS;
  }

  /** Base URL of the replica that calls go to now, without a slash at its end. */
  get url(): string {
    return this.#urls[this.#current % this.#urls.length] as string;
  }

  /** Moves on to the next replica, unless somebody did since `from` was tried. */
  moveOn(from: string): void {
    if (this.url === from) this.#current += 1;
  }

  /**
   * Sends a call until it is answered. An idempotent one is sent again after a lost connection, a time-out, 502-504 and 429; any other
   * only after a 429, since a limit refuses before anything is done. @returns the body's text
   * @throws HubError; the signal's reason when the caller gave up
   */
  async send(call: Call): Promise<string> {
    for (let attempt = 0; ; attempt += 1) {
      const url = this.url;
      const outcome = await this.#attempt(url, call);
      if (typeof outcome === 'string') return outcome;
      if (outcome.status === 0) this.moveOn(url);
      const waitMs = Math.max(fullJitterMs(attempt, this.#backoff), this.#askedToWait(outcome));
      const last = attempt + 1 >= this.#maxAttempts;
      if (last || !mayRepeat(outcome, call.idempotent) || waitMs > this.#maxRetryAfterMs) throw outcome;
      await sleep(waitMs, undefined, call.signal === undefined ? {} : { signal: call.signal });
    }
  }

  /** Jitter on top of what Retry-After says, so that those who were refused together do not return together. */
  #askedToWait({ retryAfterMs }: HubError): number {
    return retryAfterMs === undefined ? 0 : retryAfterMs + fullJitterMs(0, this.#backoff);
  }

  /**
   * Sends a call once whose answer is a stream. The deadline is for its beginning; how long it may be silent after that is the caller's matter.
   * @param signal ends the call and the stream
   * @throws HubError for anything but a 2xx answer
   */
  async open(call: Call, signal: AbortSignal): Promise<Response> {
    const url = this.url;
    const controller = new AbortController();
    const giveUp = () => controller.abort();
    signal.addEventListener('abort', giveUp, { once: true });
    const timer = setTimeout(giveUp, this.timeoutMs);
    try {
      signal.throwIfAborted();
      const response = await this.#request(url, call, controller.signal);
      if (response.ok) return response;
      throw errorFromAnswer(response.status, response.headers, await response.text());
    } catch (error) {
      if (error instanceof HubError) throw error;
      this.moveOn(url);
      throw this.#failure(url, call, controller.signal, error);
    } finally {
      clearTimeout(timer);
    }
  }

  async #attempt(url: string, call: Call): Promise<string | HubError> {
    call.signal?.throwIfAborted();
    // Not AbortSignal.any: on Node 20 its signals outlive the request for as long as the caller's signal lives.
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), call.timeoutMs ?? this.timeoutMs);
    const giveUp = () => controller.abort();
    call.signal?.addEventListener('abort', giveUp, { once: true });
    try {
      const response = await this.#request(url, call, controller.signal);
      const text = await response.text();
      if (response.ok || call.answers?.includes(response.status)) return text;
      return errorFromAnswer(response.status, response.headers, text);
    } catch (cause) {
      call.signal?.throwIfAborted();
      return this.#failure(url, call, controller.signal, cause);
    } finally {
      clearTimeout(timer);
      call.signal?.removeEventListener('abort', giveUp);
    }
  }

  #request(url: string, call: Call, signal: AbortSignal): Promise<Response> {
    const body = call.bodyText ?? (call.body === undefined ? undefined : JSON.stringify(call.body));
    return fetch(url + call.path, {
      method: call.method,
      headers: {
        Accept: 'application/json',
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...call.headers,
        ...call.sign?.(body ?? ''),
      },
      ...(body === undefined ? {} : { body }),
      redirect: 'error', // A redirect could carry a secret to another host.
      signal,
    });
  }

  #failure(url: string, call: Call, signal: AbortSignal, cause: unknown): HubError {
    const timeoutMs = call.timeoutMs ?? this.timeoutMs;
    return signal.aborted
      ? new HubError('timeout', `${url} did not answer within ${timeoutMs} ms`, { cause })
      : new HubError('unreachable', `${url} cannot be reached (${reasonOf(cause)})`, { cause });
  }
}

/**
 * Reads the JSON of an answer. The server made it from the schemas that its type comes from, so its members are not looked at.
 * @throws HubError `bad_answer` when it is no object or list
 */
export function parseAnswer<T>(text: string): T {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch (cause) {
    throw new HubError('bad_answer', 'the answer is not JSON', { cause });
  }
  if (typeof answer === 'object' && answer !== null) return answer as T;
  throw new HubError('bad_answer', 'the answer is no JSON object');
}

function mayRepeat(error: HubError, idempotent: boolean): boolean {
  if (error.code === 'rate_limited') return true;
  return idempotent && ['unreachable', 'timeout', 'unavailable'].includes(error.code);
}

/** fetch says "fetch failed" and keeps what happened in the cause, which may be several attempts in one. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (cause instanceof AggregateError && cause.errors.length > 0) return reasonOf(cause.errors[0]);
  const { code, message } = cause as NodeJS.ErrnoException;
  return code ?? message;
}
