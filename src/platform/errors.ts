import type { ContentfulStatusCode } from 'hono/utils/http-status';
import type * as v from 'valibot';

/** The closed set of error codes, and the status each one answers with. */
export const ERROR_STATUS = {
  bad_json: 400,
  unauthenticated: 401,
  session_unknown: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  invalid: 422,
  not_ready: 425,
  rate_limited: 429,
  quota_exceeded: 429,
  internal: 500,
  unavailable: 503,
} as const satisfies Record<string, ContentfulStatusCode>;

export type ErrorCode = keyof typeof ERROR_STATUS;

/** One failing path of a request and why it fails; never the received value. */
export interface ErrorDetail {
  readonly path: string;
  readonly message: string;
}

/** What every error answer looks like. */
export interface ErrorEnvelope {
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly request_id: string;
    readonly details?: readonly ErrorDetail[];
  };
}

interface AppErrorOptions {
  readonly details?: readonly ErrorDetail[];
  /** Seconds for Retry-After. */
  readonly retry_after_sec?: number;
  readonly cause?: unknown;
}

/** A refusal the client is told about. Anything else that is thrown becomes a 500 without a word of its own. */
export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly details: readonly ErrorDetail[] | undefined;
  readonly retry_after_sec: number | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.details = options.details;
    this.retry_after_sec = options.retry_after_sec;
  }

  get status(): ContentfulStatusCode {
    return ERROR_STATUS[this.code];
  }
}

const MAX_DETAILS = 50;
const MAX_PATH_CHARS = 200;
const UNAVAILABLE_RETRY_SEC = 1;

/** A 422 from validation issues: every failing path (the first 50), with messages that hold no received value. */
export function invalid(issues: readonly v.BaseIssue<unknown>[]): AppError {
  const details = issues
    .slice(0, MAX_DETAILS)
    .map((issue) => ({ path: pathOf(issue), message: safeMessage(issue) }));
  return new AppError('invalid', 'the request is not valid', { details });
}

/** A 422 of which one path is known to fail, and why. */
export function invalidAt(path: string, message: string): AppError {
  return new AppError('invalid', 'the request is not valid', { details: [{ path, message }] });
}

/** A 503 for a store that does not answer. */
export function unavailable(what: string, cause?: unknown): AppError {
  return new AppError('unavailable', `${what} is not available`, {
    retry_after_sec: UNAVAILABLE_RETRY_SEC,
    cause,
  });
}

/**
 * What to tell the client about anything thrown: itself when it is an AppError, 503 when a store cannot be reached,
 * else a 500 that says nothing of the inside.
 */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (isConnectionError(error)) return unavailable('a store', error);
  return new AppError('internal', 'internal error', { cause: error });
}

/** The body of an error answer. */
export function envelope(error: AppError, request_id: string): ErrorEnvelope {
  const { code, message, details } = error;
  return { error: { code, message, request_id, ...(details === undefined ? {} : { details }) } };
}

/** Names of network failures, as Node, ioredis and postgres.js put them in `code`, and Postgres' own classes of "not now". */
const CONNECTION_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'CONNECT_TIMEOUT',
  'CONNECTION_CLOSED',
  'CONNECTION_ENDED',
  'CONNECTION_DESTROYED',
  'CONNECTION_CONNECT_TIMEOUT',
  '53300',
  '57014',
  '57P01',
  '57P02',
  '57P03',
]);

/** Replies by which a Redis server says that it cannot serve now. */
const REDIS_NOT_NOW = /^(LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|READONLY|OOM|BUSY|NOREPLICAS|MISCONF)\b/;

const REDIS_CLIENT_NOT_NOW = [
  'Connection is closed',
  'Command timed out',
  'Socket timeout',
  "Stream isn't writeable",
  'Reached the max retries per request limit',
  'Failed to refresh slots cache',
  'None of startup nodes is available',
  "Cluster isn't ready",
  'Too many Cluster redirections',
];

/** Whether an error means that Redis or Postgres cannot be reached or cannot serve just now. Looks through `cause`. */
export function isConnectionError(error: unknown): boolean {
  for (
    let current = error, depth = 0;
    current instanceof Error && depth < 5;
    current = current.cause, depth += 1
  ) {
    const { code, syscall } = current as NodeJS.ErrnoException;
    if (typeof code === 'string' && CONNECTION_CODES.has(code)) return true;
    if (code === 'ENOENT' && syscall === 'connect') return true;
    if (current.name === 'MaxRetriesPerRequestError' || current.name === 'ClusterAllFailedError') return true;
    if (REDIS_NOT_NOW.test(current.message)) return true;
    const { message } = current;
    if (REDIS_CLIENT_NOT_NOW.some((start) => message.startsWith(start))) return true;
  }
  return false;
}

function pathOf(issue: v.BaseIssue<unknown>): string {
  const path = (issue.path ?? []).map((item) => String(item.key)).join('.');
  return path.length > MAX_PATH_CHARS ? `${path.slice(0, MAX_PATH_CHARS)}…` : path;
}

/** Valibot's own messages end in `but received "<value>"`: cut it, the value may be a secret. */
function safeMessage(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object') return issue.expected === 'never' ? 'unknown key' : 'is missing';
  return issue.message.replace(
    / but received .*$/su,
    issue.received === 'undefined' ? ' but it is missing' : '',
  );
}
