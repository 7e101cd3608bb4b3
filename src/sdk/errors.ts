import type { ErrorCode, ErrorDetail, ErrorEnvelope } from '../platform/errors.ts';
import { readRetryAfter } from '../platform/retry-after.ts';

/** Failures that are seen by the client alone: no connection, no answer in time, an answer that makes no sense. */
type ClientErrorCode = 'unreachable' | 'timeout' | 'bad_answer';

interface HubErrorOptions {
  /** HTTP status; 0 when there was no answer. */
  readonly status?: number;
  readonly requestId?: string | undefined;
  readonly details?: readonly ErrorDetail[] | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/** Refusals that the same request meets again however often it is sent. */
const FINAL_CODES: ReadonlySet<HubError['code']> = new Set([
  'unauthenticated',
  'forbidden',
  'invalid',
  'bad_json',
  'too_large',
  'not_found',
]);

/** A call that failed. `code` is the hub's own, or one of the client's when the hub did not answer. */
export class HubError extends Error {
  override readonly name = 'HubError';
  readonly code: ErrorCode | ClientErrorCode;
  readonly status: number;
  readonly request_id: string | undefined;
  readonly details: readonly ErrorDetail[];
  /** What Retry-After asked for, ms. */
  readonly retryAfterMs: number | undefined;

  constructor(code: HubError['code'], message: string, options: HubErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.status = options.status ?? 0;
    this.request_id = options.requestId;
    this.details = options.details ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }

  /** The same call would be refused again, however often it is sent. */
  get isFinal(): boolean {
    return FINAL_CODES.has(this.code);
  }
}

/**
 * A gateway without its hub; 408: the server closed a connection that had been silent for too long just when the call was
 * sent, and never read it.
 */
const NOT_NOW: ReadonlySet<number> = new Set([408, 502, 503, 504]);

/** Reads an error answer; anything but the hub's envelope (a proxy's page) becomes `bad_answer`, or `unavailable` where asking again helps. */
export function errorFromAnswer(status: number, headers: Headers, text: string): HubError {
  const retryAfterMs = readRetryAfter(headers.get('Retry-After'));
  const found = readEnvelope(text);
  if (found !== undefined) {
    const { code, message, request_id, details } = found.error;
    return new HubError(code, message, { status, requestId: request_id, details, retryAfterMs });
  }
  return new HubError(
    NOT_NOW.has(status) ? 'unavailable' : 'bad_answer',
    `the answer has status ${status} and is not the hub's`,
    { status, requestId: headers.get('X-Request-Id') ?? undefined, retryAfterMs },
  );
}

/** @returns undefined for anything else: the answer came from something in between, and the status is all it tells */
function readEnvelope(text: string): ErrorEnvelope | undefined {
  try {
    const { error } = JSON.parse(text) as Partial<ErrorEnvelope>;
    if (typeof error?.code !== 'string' || typeof error.message !== 'string') return undefined;
    return { error: { ...error, details: Array.isArray(error.details) ? error.details : [] } };
  } catch {
    return undefined;
  }
}
