import { HubError } from './errors.ts';
import { type Call, parseAnswer, Transport, type TransportOptions } from './transport.ts';
import type * as t from './types.ts';

export interface HubClientOptions extends TransportOptions {
  /** Needed for match, explain, reservations and feedback. */
  readonly coordinatorSecret?: string | undefined;
  /** Needed for the administrators' calls. */
  readonly adminKey?: string | undefined;
}

interface CallOptions {
  /** Gives the call up; it then throws the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Every call of the Pool Hub, typed from the schemas that the hub checks requests with. Each throws HubError; each attempt has a
 * deadline, and what may be sent twice is retried with backoff (see Transport).
 */
export class HubClient {
  readonly transport: Transport;
  readonly #coordinator: Record<string, string>;
  readonly #admin: Record<string, string>;
  /** For calls that both may make: a coordinator's secret, else an administrator's key. */
  readonly #either: Record<string, string>;

  constructor(options: HubClientOptions) {
    this.transport = new Transport(options);
    const { coordinatorSecret, adminKey } = options;
    this.#coordinator = coordinatorSecret === undefined ? {} : { 'X-Coordinator-Secret': coordinatorSecret };
    this.#admin = adminKey === undefined ? {} : { 'X-Admin-Key': adminKey };
    this.#either = coordinatorSecret === undefined ? this.#admin : this.#coordinator;
  }

  /** Registers, or registers again: that replaces the profile and the session, so a repeat after a lost answer does no harm. */
  register(profile: t.RegisterRequest, options?: CallOptions): Promise<t.RegisterAnswer> {
    return this.#post('/v1/miners/register', {}, profile, true, options);
  }

  heartbeat(sessionToken: string, beat: t.HeartbeatFrame, options?: CallOptions): Promise<t.HeartbeatAnswer> {
    return this.#post('/v1/miners/heartbeat', bearer(sessionToken), beat, true, options);
  }

  /** A heartbeat that also changes the profile. */
  update(sessionToken: string, change: t.UpdateRequest, options?: CallOptions): Promise<t.HeartbeatAnswer> {
    return this.#post('/v1/miners/update', bearer(sessionToken), change, true, options);
  }

  renew(sessionToken: string, options?: CallOptions): Promise<t.LeaseAnswer> {
    return this.#json({
      method: 'GET',
      path: '/v1/miners/lease/renew',
      headers: bearer(sessionToken),
      idempotent: true,
      ...options,
    });
  }

  /** Leaves the registry at once. A session that is unknown by then has left already: no error. */
  async logout(sessionToken: string, options?: CallOptions): Promise<void> {
    try {
      await this.#post('/v1/miners/logout', bearer(sessionToken), {}, true, options);
    } catch (error) {
      if (!(error instanceof HubError && error.code === 'session_unknown')) throw error;
    }
  }

  /** One page of the registry; `next_cursor` of the answer is the `cursor` of the next page. */
  listMiners(query: t.ListQuery = {}, options?: CallOptions): Promise<t.MinerPage> {
    const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] != null);
    const path = `/v1/miners?${new URLSearchParams(given)}`;
    return this.#json({ method: 'GET', path, headers: this.#admin, idempotent: true, ...options });
  }

  getMiner(minerId: string, options?: CallOptions): Promise<t.MinerDetail> {
    return this.#json({
      method: 'GET',
      path: minerPath(minerId),
      headers: this.#admin,
      idempotent: true,
      ...options,
    });
  }

  /** Enrolls a miner or gives it another key; the key is in this answer and nowhere else, so a lost answer needs another call. */
  createKey(minerId: string, options?: CallOptions): Promise<t.KeyAnswer> {
    return this.#post(minerPath(minerId, '/keys'), this.#admin, undefined, false, options);
  }

  /** Queues a command for the miner; it arrives at least once. */
  sendCommand(minerId: string, command: t.CommandRequest, options?: CallOptions): Promise<t.CommandAnswer> {
    return this.#post(minerPath(minerId, '/commands'), this.#admin, command, false, options);
  }

  drain(minerId: string, options?: CallOptions): Promise<t.CommandAnswer> {
    return this.#post(minerPath(minerId, '/drain'), this.#admin, undefined, false, options);
  }

  resume(minerId: string, options?: CallOptions): Promise<t.CommandAnswer> {
    return this.#post(minerPath(minerId, '/resume'), this.#admin, undefined, false, options);
  }

  /** Takes a live miner out of the registry. */
  async removeMiner(minerId: string, options?: CallOptions): Promise<void> {
    await this.transport.send({
      method: 'DELETE',
      path: minerPath(minerId),
      headers: this.#admin,
      idempotent: false, // The second one would find nothing and answer not_found.
      ...options,
    });
  }

  async setPriceOverride(
    minerId: string,
    override: t.PriceOverrideRequest,
    options?: CallOptions,
  ): Promise<void> {
    await this.transport.send({
      method: 'PUT',
      path: minerPath(minerId, '/price-override'),
      headers: this.#admin,
      body: override,
      idempotent: true,
      ...options,
    });
  }

  async clearPriceOverride(minerId: string, options?: CallOptions): Promise<void> {
    await this.transport.send({
      method: 'DELETE',
      path: minerPath(minerId, '/price-override'),
      headers: this.#admin,
      idempotent: false,
      ...options,
    });
  }

  /** The best miners for a job. Asking again with the same job_id gives the same reservations. */
  match(request: t.MatchRequest, options?: CallOptions): Promise<t.MatchAnswer> {
    return this.#post('/v1/match', this.#coordinator, request, true, options);
  }

  /** Why a match has the candidates it has: counts per clause, and for `miner_id` every clause it fails. */
  explain(request: t.ExplainRequest, options?: CallOptions): Promise<t.ExplainAnswer> {
    return this.#post('/v1/match/explain', this.#coordinator, request, true, options);
  }

  async confirmReservation(reservationId: string, options?: CallOptions): Promise<void> {
    const path = `/v1/reservations/${encodeURIComponent(reservationId)}/confirm`;
    await this.#post(path, this.#coordinator, undefined, true, options);
  }

  async releaseReservation(reservationId: string, options?: CallOptions): Promise<void> {
    const path = `/v1/reservations/${encodeURIComponent(reservationId)}/release`;
    await this.#post(path, this.#coordinator, undefined, true, options);
  }

  /** Says how a job went; counts once for each job, miner and outcome. */
  feedback(feedback: t.FeedbackRequest, options?: CallOptions): Promise<t.FeedbackAnswer> {
    return this.#post('/v1/feedback', this.#coordinator, feedback, true, options);
  }

  /** Service levels of a miner, or (undefined) of all and of the pool: the newest measurements, at most 1,000 of them. */
  slaMetrics(
    minerId: string | undefined,
    query: t.SlaMetricsQuery = {},
    options?: CallOptions,
  ): Promise<t.SlaMetrics> {
    const miner = minerId === undefined ? '' : `/${encodeURIComponent(minerId)}`;
    return this.#levels(`metrics${miner}?${queryOf(query)}`, options);
  }

  /** Violations that are open now, the newest first, at most 1,000. */
  openViolations(options?: CallOptions): Promise<t.SlaViolations> {
    return this.#levels('violations?resolved=false&limit=1000', options);
  }

  slaStatus(options?: CallOptions): Promise<t.SlaStatus> {
    return this.#levels('status', options);
  }

  /** Places that will be in use, hour by hour. */
  capacityForecast(hoursAhead?: number, options?: CallOptions): Promise<t.CapacityForecast> {
    const query = hoursAhead === undefined ? '' : `?hours_ahead=${hoursAhead}`;
    return this.#levels(`capacity/forecast${query}`, options);
  }

  capacityRecommendations(options?: CallOptions): Promise<t.CapacityRecommendations> {
    return this.#levels('capacity/recommendations', options);
  }

  #levels<Answer>(path: string, options?: CallOptions): Promise<Answer> {
    const headers = this.#either;
    return this.#json({ method: 'GET', path: `/v1/sla/${path}`, headers, idempotent: true, ...options });
  }

  /** What was used in the last hours, and how much of it the coordinator has. */
  billingUsage(query: t.UsageQuery = {}, options?: CallOptions): Promise<t.UsageReport> {
    return this.#levels(`billing/usage?${queryOf(query)}`, options);
  }

  /** Records that were sent and that the coordinator does not have, and why: a page of the newest uses. */
  billingFailures(query: t.FailuresQuery = {}, options?: CallOptions): Promise<t.UsageFailure[]> {
    return this.#levels(`billing/failures?${queryOf(query)}`, options);
  }

  /** Has the worker send what was used to the coordinator; the answer may take 10 s. */
  billingSync(request: t.BillingSyncRequest, options?: CallOptions): Promise<t.BillingSync> {
    return this.#post('/v1/sla/billing/sync', this.#either, request, true, options);
  }

  /** Health of the hub; one that is down answers too, with status 503. */
  health(options?: CallOptions): Promise<t.HealthAnswer> {
    return this.#json({
      method: 'GET',
      path: '/v1/health',
      idempotent: true,
      answers: [503],
      ...options,
    });
  }

  /** Metrics in the text format of Prometheus. */
  metrics(options?: CallOptions): Promise<string> {
    return this.transport.send({ method: 'GET', path: '/v1/metrics', idempotent: true, ...options });
  }

  #post<T>(
    path: string,
    headers: Record<string, string>,
    body: unknown,
    idempotent: boolean,
    options: CallOptions = {},
  ): Promise<T> {
    return this.#json({ method: 'POST', path, headers, body, idempotent, ...options });
  }

  async #json<T>(call: Call): Promise<T> {
    return parseAnswer(await this.transport.send(call));
  }
}

function bearer(token: string): Record<string, string> {
  return { Authorization: `Bearer ${token}` };
}

/** What is given of a query, as it stands in a URL. */
function queryOf(query: object): URLSearchParams {
  return new URLSearchParams(
    Object.entries(query).filter((entry): entry is [string, string] => entry[1] != null),
  );
}

function minerPath(minerId: string, rest = ''): string {
  return `/v1/miners/${encodeURIComponent(minerId)}${rest}`;
}
