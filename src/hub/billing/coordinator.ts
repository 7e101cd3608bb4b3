import { readBounded } from '../../platform/bounded-body.ts';
/** The billing side of the coordinator, as the hub calls it. */
import type { Config } from '../../platform/config.ts';
import { readRetryAfter } from '../../platform/retry-after.ts';
import { VERSION } from '../../platform/version.ts';
import type { ClaimedRecord } from './store.ts';

/** What came of a call. */
export type CallResult = { readonly status: 'done'; readonly answer: Record<string, unknown> } | CallFailure;

/**
 * `busy`: the coordinator asks everybody to wait; `away`: no answer, or one that has nothing to do with what was sent;
 * `refused`: it does not take this as it is, or not now, but others it may take.
 */
export interface CallFailure {
  readonly status: 'busy' | 'away' | 'refused';
  /** Undefined without an answer. */
  readonly httpStatus: number | undefined;
  readonly error: string;
  readonly retryAfterMs: number | undefined;
}

export type BillingSettings = Pick<
  Config,
  'coordinator_billing_url' | 'coordinator_api_key' | 'coordinator_billing_timeout_ms'
>;

export interface BillingCoordinator {
  /** How long a call may take, ms. */
  readonly timeoutMs: number;
  /** May be repeated: the id of the record is its Idempotency-Key, and the body is the same each time. */
  sendUsage(record: ClaimedRecord): Promise<CallResult>;
  makeInvoice(tenantId: string, start: Date, end: Date): Promise<CallResult>;
}

/** More of an answer is not read. */
const MAX_ANSWER_BYTES = 262_144;
const MAX_REASON_CHARS = 200;

/** A client of COORDINATOR_BILLING_URL; undefined when that is not set. Redirects are not followed, they would take the key elsewhere. */
export function createBillingCoordinator(settings: BillingSettings): BillingCoordinator | undefined {
  const {
    coordinator_billing_url,
    coordinator_api_key,
    coordinator_billing_timeout_ms: timeoutMs,
  } = settings;
  if (coordinator_billing_url === undefined || coordinator_api_key === undefined) return undefined;
  const base = coordinator_billing_url.replace(/\/+$/, '');
  const headers = {
    Authorization: `Bearer ${coordinator_api_key}`,
    'Content-Type': 'application/json',
    'User-Agent': `pool-hub/${VERSION}`,
  };
  return {
    timeoutMs,
    sendUsage: (record) =>
      post(
        `${base}/api/billing/usage`,
        { ...headers, 'Idempotency-Key': record.id },
        usageBody(record),
        timeoutMs,
      ),
    makeInvoice: (tenant_id, start, end) =>
      post(
        `${base}/api/billing/invoice`,
        headers,
        { tenant_id, period_start: start.toISOString(), period_end: end.toISOString() },
        timeoutMs,
      ),
  };
}

function usageBody(record: ClaimedRecord) {
  return {
    tenant_id: record.tenantId,
    event_type: 'usage',
    resource_type: record.resourceType,
    quantity: record.quantity,
    unit_price: record.unitPrice,
    total_amount: record.totalAmount,
    currency: 'USD',
    timestamp: record.usedAt,
    metadata: record.metadata,
    ...(record.jobId === null ? {} : { job_id: record.jobId }),
  };
}

async function post(
  url: string,
  headers: Record<string, string>,
  body: object,
  timeoutMs: number,
): Promise<CallResult> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    });
    return judge(response, await readAnswer(response));
  } catch (error) {
    const reason = reasonOf(error, timeoutMs);
    return { status: 'away', httpStatus: undefined, error: reason, retryAfterMs: undefined };
  }
}

/** @param answer the JSON object of the answer, empty when there was no body; undefined for anything else, as a proxy's page */
function judge(response: Response, answer: Record<string, unknown> | undefined): CallResult {
  const { status: httpStatus, ok, headers } = response;
  const saysNo = answer?.success === false || (answer?.error ?? null) !== null;
  if (ok && answer !== undefined && !saysNo) return { status: 'done', answer };
  return {
    status: kindOf(httpStatus, answer),
    httpStatus,
    error: `status ${httpStatus}${describe(answer)}`,
    retryAfterMs: readRetryAfter(headers.get('Retry-After')),
  };
}

/** Answers that are about the hub, its key or the coordinator itself, beside 3xx and 5xx. */
const NOT_ABOUT_THE_RECORD = new Set([401, 403, 404, 405, 408]);

function kindOf(httpStatus: number, answer: Record<string, unknown> | undefined): CallFailure['status'] {
  // Past its plan is one tenant alone.
  const isQuota = (answer?.error as { code?: unknown } | null | undefined)?.code === 'quota_exceeded';
  if (httpStatus === 429) return isQuota ? 'refused' : 'busy';
  if (answer === undefined) return 'away';
  const isElsewhere = httpStatus >= 500 || (httpStatus >= 300 && httpStatus < 400);
  return isElsewhere || NOT_ABOUT_THE_RECORD.has(httpStatus) ? 'away' : 'refused';
}

/** @throws Error when the answer is cut off or has too many bytes */
async function readAnswer(response: Response): Promise<Record<string, unknown> | undefined> {
  const body = await readBounded(response, MAX_ANSWER_BYTES);
  if (body.length === 0) return {};
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    const isObject = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed);
    return isObject ? (parsed as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // Not the coordinator's: the caller tries again later.
  }
}

function describe(answer: Record<string, unknown> | undefined): string {
  if (answer === undefined) return ', and the body is no JSON object';
  const reason = answer.error ?? answer.detail ?? answer.message;
  if (reason === undefined || reason === null) return '';
  const text = typeof reason === 'string' ? reason : JSON.stringify(reason);
  return `, ${text.slice(0, MAX_REASON_CHARS)}`;
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return `no answer within ${timeoutMs} ms`;
  // fetch says only "fetch failed"; what failed is its cause.
  const { cause } = error;
  return cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : error.message;
}
