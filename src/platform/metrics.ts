import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** From a tenth of a millisecond to the ten seconds after which nobody waits. */
const LATENCY_BUCKETS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000];

/**
 * A registry for one process, and what makes metrics in it.
 * @param options.process whether to add the metrics of the Node process (off in tests, which make many registries)
 */
export function openRegistry(options: { process: boolean }) {
  const registry = new Registry();
  const registers = [registry];
  if (options.process) collectDefaultMetrics({ register: registry });
  return {
    registry,
    counter: <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
      new Counter<L>({ name, help, labelNames: [...labelNames], registers }),
    gauge: <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
      new Gauge<L>({ name, help, labelNames: [...labelNames], registers }),
    latency: <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
      new Histogram<L>({ name, help, labelNames: [...labelNames], buckets: LATENCY_BUCKETS_MS, registers }),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;

/**
 * The metrics of one hub or worker. No label ever holds a miner id, a token or anything else a client chose
 * freely. Gauges of the fleet start without a value: unknown is absent, not 0.
 * @param options as of `openRegistry`
 */
export function createMetrics(options: { process: boolean } = { process: true }) {
  const make = openRegistry(options);
  const { registry, counter, gauge, latency } = make;
  const fleetGauge = (name: string, help: string) => {
    const made = gauge(name, help);
    made.remove();
    return made;
  };

  return {
    registry,
    minersOnline: fleetGauge('poolhub_miners_online', 'Miners whose lease holds'),
    reservations: fleetGauge(
      'poolhub_reservations',
      'Places claimed and not yet confirmed, released or expired',
    ),
    journalLag: fleetGauge('poolhub_journal_lag', 'Journal entries that have not reached Postgres'),
    matchLatencyMs: latency('poolhub_match_latency_ms', 'Milliseconds to answer a match'),
    matchRequests: counter('poolhub_match_requests_total', 'Matches by result: matched, empty, error', [
      'result',
    ]),
    matchRejections: counter(
      'poolhub_match_rejections_total',
      'Empty matches by the clause that emptied them',
      ['clause'],
    ),
    matchTruncated: counter(
      'poolhub_match_truncated_total',
      'Matches that met the work budget of a script call',
    ),
    heartbeats: counter('poolhub_heartbeats_total', 'Heartbeats taken, by transport: http, ws', [
      'transport',
    ]),
    wsConnections: gauge('poolhub_ws_connections', 'Open miner sockets of this process'),
    wsClosed: counter('poolhub_ws_closed_total', 'Miner sockets closed by the hub, by close code', ['code']),
    scriptDurationMs: latency(
      'poolhub_script_duration_ms',
      'Milliseconds a Redis script took, seen from here',
      ['script'],
    ),
    scriptErrors: counter('poolhub_script_errors_total', 'Redis scripts that failed', ['script']),
    feedback: counter('poolhub_feedback_total', 'Feedback taken, by outcome', ['outcome']),
    httpDurationMs: latency('poolhub_http_duration_ms', 'Milliseconds a request took, by route pattern', [
      'method',
      'route',
      'status',
    ]),
    rateLimited: counter('poolhub_rate_limited_total', 'Requests refused by a rate limit', ['route']),
    reaperDegraded: counter('poolhub_reaper_degraded_total', 'Miners the reaper found past their lease'),
    reaperRemoved: counter('poolhub_reaper_removed_total', 'Miners removed for their silence'),
    reaperHeldBack: counter('poolhub_reaper_held_back_total', 'Removals put off by self-preservation'),
    journalWritten: counter('poolhub_journal_written_total', 'Journal entries committed to Postgres', [
      'type',
    ]),
    journalDead: counter('poolhub_journal_dead_total', 'Journal entries put aside as unreadable', ['type']),
    ...taskMetrics(make),
  };
}

/** What the worker counts beside the rest. */
function taskMetrics({ counter, gauge }: ReturnType<typeof openRegistry>) {
  return {
    webhookDeliveries: counter(
      'poolhub_webhook_deliveries_total',
      'Attempts to deliver an alert, by result: sent, retried, given_up',
      ['result'],
    ),
    usageSends: counter(
      'poolhub_usage_sends_total',
      'Usage records given to the coordinator, by result: accepted, put_off, refused',
      ['result'],
    ),
    usageRecords: gauge(
      'poolhub_usage_records',
      'Usage records that the coordinator does not have, by state: waiting, due, failing, refused; no more than a million are counted',
      ['state'],
    ),
    tasksFailed: counter('poolhub_tasks_failed_total', 'Runs of tasks that failed, by queue and task', [
      'queue',
      'task',
    ]),
    tasks: gauge('poolhub_tasks', 'Tasks of the worker queues, by state', ['queue', 'state']),
  };
}
