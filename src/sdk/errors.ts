import type { ErrorCode, ErrorDetail, ErrorEnvelope } from '../platform/errors.ts';

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

/** Retry-After is seconds or a date (RFC 9110, 10.2.3). @returns milliseconds from now; undefined when absent or unreadable */
export function readRetryAfter(value: string | null | undefined): number | undefined {
  if (!value) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  // Date.parse also makes dates of what is none, such as "-1".
  const atMs = /^[A-Z][a-z]{2},? /.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - Date.now());
}

function readEnvelope(text: string): ErrorEnvelope | undefined {
  try {
    const parsed = JSON.parse(text) as Partial<ErrorEnvelope> | null;
    return typeof parsed?.error?.code === 'string' ? (parsed as ErrorEnvelope) : undefined;
  } catch {
    return undefined; // Not JSON: the answer came from something in between, and the status is all it tells.
  }
}
