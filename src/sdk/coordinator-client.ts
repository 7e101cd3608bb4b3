import { createHmac, randomUUID } from 'node:crypto';
import type { BackoffLimits } from './backoff.ts';
import type * as t from './coordinator-types.ts';
import { type EventPlace, type JobEvent, jobEventsOnce } from './job-events.ts';
import { type JobMessage, jobMessagesOnce } from './job-stream.ts';
import { reconnecting } from './reconnect.ts';
import { type Call, parseAnswer, Transport, type TransportOptions } from './transport.ts';

export interface CoordinatorClientOptions extends TransportOptions {
  /** Key of a client, a miner or an administrator: it decides which calls are allowed. */
  readonly apiKey: string;
  /** Who a miner is when its key names nobody. */
  readonly minerId?: string | undefined;
  /** Signs every call with the key (false). */
  readonly sign?: boolean;
}

interface CallOptions {
  /** Gives the call up; it then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Milliseconds for the answer to a poll to arrive after the coordinator has stopped holding it. */
const POLL_MARGIN_MS = 5_000;

/** Between two connections of a stream. */
const RECONNECT: BackoffLimits = { baseMs: 250, capMs: 15_000 };

/**
 * Every call of the coordinator, typed from the schemas that it checks requests with. Each throws HubError; each attempt has a
 * deadline, and what may be sent twice is retried with backoff (see Transport).
 */
export class CoordinatorClient {
  readonly transport: Transport;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #reconnect: BackoffLimits;
  readonly #sign: ((bodyText: string) => Record<string, string>) | undefined;

  constructor({ apiKey, minerId, sign = false, ...options }: CoordinatorClientOptions) {
    this.transport = new Transport(options);
    this.#reconnect = options.backoff ?? RECONNECT;
    this.#headers = { 'X-Api-Key': apiKey, ...(minerId === undefined ? {} : { 'X-Miner-ID': minerId }) };
    this.#sign = sign ? signer(apiKey) : undefined;
  }

  /**
   * Submits a job.
   * @param idempotencyKey of the job, for a repeat by another process; without one, repeats of this call alone give the same job
   */
  submit(
    request: t.SubmitRequest,
    { idempotencyKey = randomUUID(), ...options }: CallOptions & { idempotencyKey?: string } = {},
  ): Promise<t.Job> {
    const headers = { 'Idempotency-Key': idempotencyKey };
    return this.#json({ ...post('/v1/jobs', request), headers, idempotent: true, ...options });
  }

  getJob(jobId: string, options?: CallOptions): Promise<t.Job> {
    return this.#get(`/v1/jobs/${encodeURIComponent(jobId)}`, {}, options);
  }

  /** One page of the client's jobs; `next_cursor` of the answer is the `cursor` of the next page. */
  listJobs(query: t.JobsQuery = {}, options?: CallOptions): Promise<t.JobPage> {
    return this.#get('/v1/jobs', query, options);
  }

  /** Result and receipt, or the error of a job that did not complete. @throws HubError `not_ready` until it is over */
  getResult(jobId: string, options?: CallOptions): Promise<t.JobResult> {
    return this.#get(`/v1/jobs/${encodeURIComponent(jobId)}/result`, {}, options);
  }

  /** @throws HubError `conflict` for a job that is over, and so for a repeat after a lost answer */
  cancel(jobId: string, options?: CallOptions): Promise<t.Job> {
    return this.#json({ ...post(`/v1/jobs/${encodeURIComponent(jobId)}/cancel`), ...options });
  }

  /**
   * The job as it is now and after each of its changes, until it is over. A connection that is lost is made again, and goes on behind the last change
   * that came, so each comes once; of changes in quick succession the earlier may be left out.
   * @param lastRevision only changes after this one
   */
  jobEvents(
    jobId: string,
    { lastRevision = 0, ...options }: CallOptions & { lastRevision?: number } = {},
  ): AsyncGenerator<JobEvent, void> {
    const place: EventPlace = { revision: lastRevision };
    const call = this.#call({ ...get(`/v1/jobs/${encodeURIComponent(jobId)}/events`), ...options });
    return reconnecting(
      (works) => jobEventsOnce(this.transport, call, place, works),
      options.signal,
      this.#reconnect,
    );
  }

  /** Waits until a job is over. @returns the job in its last state */
  async waitFor(jobId: string, options?: CallOptions): Promise<t.Job> {
    let last: t.Job | undefined;
    for await (const { job } of this.jobEvents(jobId, options)) last = job;
    return last ?? this.getJob(jobId, options);
  }

  /** Every change of any of the client's jobs, over one WebSocket that is opened again when it is lost; ends only with the signal. */
  jobMessages(options: CallOptions = {}): AsyncGenerator<JobMessage, void> {
    const call = this.#call({ ...get('/v1/jobs/stream'), ...options });
    return reconnecting(
      (works) => jobMessagesOnce(this.transport, call, works),
      options.signal,
      this.#reconnect,
    );
  }

  /** The receipt as text, to the digit: parsed and written again it may not verify. */
  receiptText(jobId: string, options?: CallOptions): Promise<string> {
    return this.#send({ ...get(`/v1/jobs/${encodeURIComponent(jobId)}/receipt`), ...options });
  }

  /** Whether the coordinator has signed this receipt as it stands. @param receiptText as it came, to the digit */
  verifyReceipt(receiptText: string, options?: CallOptions): Promise<t.CheckedReceipt> {
    const call = { ...post('/v1/receipts/verify'), bodyText: receiptText, idempotent: true };
    return this.#json({ ...call, ...options });
  }

  listReceipts(
    jobId: string,
    query: { limit?: string; cursor?: string } = {},
    options?: CallOptions,
  ): Promise<t.ReceiptPage> {
    return this.#get(`/v1/jobs/${encodeURIComponent(jobId)}/receipts`, query, options);
  }

  receiptKeys(options?: CallOptions): Promise<t.ReceiptKeys> {
    return this.#get('/v1/receipts/keys', {}, options);
  }

  /** Registers, or anew: jobs that the miner's former session ran are queued again. @returns the session token */
  async registerMiner(registration: t.MinerRegistration, options?: CallOptions): Promise<string> {
    const call = { ...post('/v1/miners/register', registration), idempotent: true, ...options };
    return (await this.#json<{ session_token: string }>(call)).session_token;
  }

  /** @throws HubError `session_unknown` when the miner must register anew */
  beat(sessionToken: string, beat: t.MinerBeat, options?: CallOptions): Promise<t.MinerBeatAnswer> {
    return this.#json({ ...ofSession(sessionToken, '/v1/miners/heartbeat', beat), ...options });
  }

  /** The miner gets no more jobs until it registers again. */
  drainMiner(sessionToken: string, options?: CallOptions): Promise<t.MinerStatusAnswer> {
    return this.#json({ ...ofSession(sessionToken, '/v1/miners/drain'), ...options });
  }

  /**
   * Waits for a job. Not repeated by itself: a job whose answer got lost goes back to the queue, and the miner's next poll gets what there is.
   * @param waitSec how long the coordinator may hold the call; it has a limit of its own
   * @returns undefined when there was none in time
   */
  async poll(
    sessionToken: string,
    waitSec: number,
    options?: CallOptions,
  ): Promise<t.AssignedJob | undefined> {
    const text = await this.#send({
      ...post('/v1/miners/poll', { max_wait_seconds: waitSec }),
      headers: session(sessionToken),
      timeoutMs: waitSec * 1000 + POLL_MARGIN_MS,
      ...options,
    });
    return text === '' ? undefined : parseAnswer(text);
  }

  /**
   * Delivers a result. It is sent again after a lost answer; should the first have arrived, the second is a `conflict`.
   * @throws HubError `conflict` for a job that is over, `not_found` for one that is not this miner's (any more), `session_unknown` as `beat`
   */
  deliver(
    sessionToken: string,
    jobId: string,
    request: t.ResultRequest,
    options?: CallOptions,
  ): Promise<t.ResultTaken> {
    const path = `/v1/miners/${encodeURIComponent(jobId)}/result`;
    return this.#json({ ...ofSession(sessionToken, path, request), ...options });
  }

  /** Reports that a job has failed; repeated and refused as `deliver`. */
  async fail(
    sessionToken: string,
    jobId: string,
    request: t.FailRequest,
    options?: CallOptions,
  ): Promise<void> {
    const path = `/v1/miners/${encodeURIComponent(jobId)}/fail`;
    await this.#send({ ...ofSession(sessionToken, path, request), ...options });
  }

  stats(options?: CallOptions): Promise<t.CoordinatorStats> {
    return this.#get('/v1/admin/stats', {}, options);
  }

  listAllJobs(query: t.AdminJobsQuery = {}, options?: CallOptions): Promise<t.AdminJobPage> {
    return this.#get('/v1/admin/jobs', query, options);
  }

  listMiners(query: t.AdminMinersQuery = {}, options?: CallOptions): Promise<t.AdminMinerPage> {
    return this.#get('/v1/admin/miners', query, options);
  }

  listSettlements(query: t.SettlementsQuery = {}, options?: CallOptions): Promise<t.SettlementPage> {
    return this.#get('/v1/admin/settlements', query, options);
  }

  /** Counts once for each id. */
  recordUsage(id: string, record: Omit<t.UsageRequest, 'id'>, options?: CallOptions): Promise<t.UsageAnswer> {
    const headers = { 'Idempotency-Key': id };
    return this.#json({ ...post('/api/billing/usage', record), headers, idempotent: true, ...options });
  }

  billingMetrics(query: t.BillingQuery = {}, options?: CallOptions): Promise<t.BillingMetrics> {
    return this.#get('/api/billing/metrics', query, options);
  }

  /** The invoice of a period; asked for again, the same one. @throws HubError `not_found` when there is nothing to bill */
  invoice(request: t.InvoiceRequest, options?: CallOptions): Promise<t.Invoice> {
    return this.#json({ ...post('/api/billing/invoice', request), idempotent: true, ...options });
  }

  /** @param limits quantity per calendar month (UTC) by resource */
  setPlan(plan: string, limits: Readonly<Record<string, string>>, options?: CallOptions): Promise<t.Plan> {
    return this.#put(`/api/billing/plans/${encodeURIComponent(plan)}`, { limits }, options);
  }

  /** @param plan null takes all limits away */
  setTenantPlan(tenantId: string, plan: string | null, options?: CallOptions): Promise<t.Tenant> {
    return this.#put(`/api/billing/tenants/${encodeURIComponent(tenantId)}`, { plan }, options);
  }

  getTenant(tenantId: string, options?: CallOptions): Promise<t.Tenant> {
    return this.#get(`/api/billing/tenants/${encodeURIComponent(tenantId)}`, {}, options);
  }

  #get<T>(path: string, query: object, options: CallOptions = {}): Promise<T> {
    const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] != null);
    const search = given.length === 0 ? '' : `?${new URLSearchParams(given)}`;
    return this.#json({ ...get(path + search), ...options });
  }

  #put<T>(path: string, body: unknown, options: CallOptions = {}): Promise<T> {
    return this.#json({ method: 'PUT', path, body, idempotent: true, ...options });
  }

  async #json<T>(call: Call): Promise<T> {
    return parseAnswer(await this.#send(call));
  }

  #send(call: Call): Promise<string> {
    return this.transport.send(this.#call(call));
  }

  #call(call: Call): Call {
    const headers = { ...this.#headers, ...call.headers };
    return { ...call, headers, ...(this.#sign === undefined ? {} : { sign: this.#sign }) };
  }
}

function get(path: string): Call {
  return { method: 'GET', path, idempotent: true };
}

/** A call that must not be repeated unless told so. */
function post(path: string, body?: unknown): Call {
  return { method: 'POST', path, body, idempotent: false };
}

function ofSession(token: string, path: string, body?: unknown): Call {
  return { ...post(path, body), headers: session(token), idempotent: true };
}

function session(token: string): Record<string, string> {
  return { 'X-Session-Token': token };
}

/** A signature counts once, so no two calls have the same timestamp: microseconds are counted up within a millisecond. */
function signer(key: string): (bodyText: string) => Record<string, string> {
  let lastUs = 0;
  return (bodyText) => {
    lastUs = Math.max(Date.now() * 1000, lastUs + 1);
    const timestamp = `${Math.floor(lastUs / 1000)}.${String(lastUs % 1000).padStart(3, '0')}`;
    const signature = createHmac('sha256', key).update(`${timestamp}.${bodyText}`).digest('hex');
    return { 'X-Timestamp': timestamp, 'X-Signature': signature };
  };
}
