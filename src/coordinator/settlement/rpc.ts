import { readBounded } from '../../platform/bounded-body.ts';
/** The chain node, as the `rpc` driver calls it. Every call may be repeated: the node knows jobs by their id. */
import { readRetryAfter } from '../../platform/retry-after.ts';
import type { ClaimedSettlement } from './store.ts';

/** What came of a call. */
export type RpcResult =
  | { readonly status: 'done' }
  /** The node does not know the escrow of this job. */
  | { readonly status: 'unknown' }
  /** The same call may succeed later. */
  | {
      readonly status: 'later';
      readonly error: string;
      readonly retryAfterMs: number | undefined;
      readonly isNodeAway: boolean;
    }
  /** The node will never do this. */
  | { readonly status: 'refused'; readonly error: string };

export interface RpcSettings {
  /** Base URL of the node. */
  readonly url: string;
  readonly timeoutMs: number;
}

export interface ChainNode {
  create(settlement: ClaimedSettlement): Promise<RpcResult>;
  release(jobId: string): Promise<RpcResult>;
  refund(jobId: string): Promise<RpcResult>;
}

/** More of an answer is not read. */
const MAX_ANSWER_BYTES = 16_384;
const MAX_REASON_CHARS = 200;

/** The request itself is at fault; anything else may be a matter of time or of settings. */
const REFUSALS = new Set([400, 402, 410, 413, 422]);

/** A client of the node at `url`. Redirects are not followed: they would take money matters elsewhere. */
export function createChainNode({ url, timeoutMs }: RpcSettings): ChainNode {
  const base = url.replace(/\/+$/, '');
  const call = (path: string, step: Step, jobId: string, body: object) =>
    post(`${base}${path}`, step, `${jobId}:${step}`, body, timeoutMs);
  const escrow = (jobId: string) => `/rpc/escrow/${encodeURIComponent(jobId)}`;
  return {
    create: ({ jobId, buyer, provider, amount }) =>
      call('/rpc/escrow/create', 'create', jobId, { job_id: jobId, buyer, provider, amount }),
    release: (jobId) => call(`${escrow(jobId)}/release`, 'release', jobId, { job_id: jobId }),
    refund: (jobId) => call(`${escrow(jobId)}/refund`, 'refund', jobId, { job_id: jobId }),
  };
}

type Step = 'create' | 'release' | 'refund';

/** How a node may name the state that a step leads to. */
const STATE_AFTER: Readonly<Record<Step, RegExp>> = {
  create: /./,
  release: /^released$/i,
  refund: /^refunded$/i,
};

async function post(
  url: string,
  step: Step,
  idempotencyKey: string,
  body: object,
  timeoutMs: number,
): Promise<RpcResult> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': idempotencyKey },
      body: JSON.stringify(body),
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    });
    const answer = await readJson(response);
    return judge(step, response, answer);
  } catch (error) {
    return { status: 'later', error: reasonOf(error, timeoutMs), retryAfterMs: undefined, isNodeAway: true };
  }
}

/** @param answer the JSON object of the answer; undefined when it has none, as a proxy's page */
function judge(step: Step, response: Response, answer: Record<string, unknown> | undefined): RpcResult {
  const { status, ok, headers } = response;
  const error = `${step}: status ${status}${describe(answer)}`;
  const later: RpcResult = {
    status: 'later',
    error,
    retryAfterMs: readRetryAfter(headers.get('Retry-After')),
    isNodeAway: status >= 500,
  };
  if (answer === undefined) return later;
  if (ok) return saysNo(answer) ? { status: 'refused', error } : { status: 'done' };
  if (status === 404) return step === 'create' ? later : { status: 'unknown' };
  if (status === 409) return isDoneBefore(step, answer) ? { status: 'done' } : { status: 'refused', error };
  return REFUSALS.has(status) ? { status: 'refused', error } : later;
}

/** Some nodes answer 200 to everything, and put the refusal into the body. */
function saysNo({ error, success }: Record<string, unknown>): boolean {
  return success === false || Boolean(error);
}

/** A conflict is no failure if the node is already where this step leads. */
function isDoneBefore(step: Step, { status, state }: Record<string, unknown>): boolean {
  if (step === 'create') return true;
  return [status, state].some((word) => typeof word === 'string' && STATE_AFTER[step].test(word));
}

/** @throws Error when the answer is cut off or has too many bytes */
async function readJson(response: Response): Promise<Record<string, unknown> | undefined> {
  const body = await readBounded(response, MAX_ANSWER_BYTES);
  try {
    const parsed: unknown = JSON.parse(body.toString('utf8'));
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : undefined;
  } catch {
    return undefined; // Not the node's: the caller tries again later.
  }
}

function describe(answer: Record<string, unknown> | undefined): string {
  if (answer === undefined) return ', and the body is no JSON object';
  const reason = answer.error ?? answer.detail ?? answer.message;
  if (reason === undefined) return '';
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
