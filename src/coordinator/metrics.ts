import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** From a tenth of a millisecond to the ten seconds after which nobody waits. */
const LATENCY_BUCKETS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000];

export type CoordinatorMetrics = ReturnType<typeof createCoordinatorMetrics>;

/**
 * The metrics of one coordinator process, in a registry of their own. No label holds an id or anything else that a client chose freely.
 * @param options.process whether to add the metrics of the Node process (off in tests, which make many registries)
 */
export function createCoordinatorMetrics(options: { process: boolean } = { process: true }) {
  const registry = new Registry();
  const registers = [registry];
  if (options.process) collectDefaultMetrics({ register: registry });

  const counter = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name, help, labelNames: [...labelNames], registers });
  const latency = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Histogram<L>({ name, help, labelNames: [...labelNames], buckets: LATENCY_BUCKETS_MS, registers });
  const gauge = <L extends string = never>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name, help, labelNames: [...labelNames], registers });

  return {
    registry,
    httpDurationMs: latency('coordinator_http_duration_ms', 'Milliseconds a request took, by route pattern', [
      'method',
      'route',
      'status',
    ]),
    rateLimited: counter('coordinator_rate_limited_total', 'Requests refused by a rate limit', ['role']),
    transitions: counter('coordinator_job_transitions_total', 'Changes of state of jobs', ['transition']),
    jobs: gauge('coordinator_jobs', 'Jobs that are not over, by state, as Postgres has them', ['state']),
    minersOnline: gauge('coordinator_miners_online', 'Miners that are online, as Postgres has them'),
    pollsHeld: gauge('coordinator_polls_held', 'Polls that this process holds'),
    streams: gauge('coordinator_streams', 'Event streams and stream sockets of this process'),
    pickupMs: latency(
      'coordinator_pickup_ms',
      'Milliseconds from the submission of a job to its first assignment',
    ),
    hubMatchMs: latency('coordinator_hub_match_ms', 'Milliseconds the pool hub took to match, by result', [
      'result',
    ]),
    hubReports: counter('coordinator_hub_reports_total', 'Reports to the pool hub, by result', ['result']),
    hubOutbox: gauge(
      'coordinator_hub_outbox',
      'Reports that the pool hub has not taken yet, as Postgres has them',
    ),
    settlements: gauge(
      'coordinator_settlements',
      'Settlements that are not settled, by state; somebody has to look at rejected ones',
      ['state'],
    ),
    sweepErrors: counter('coordinator_sweep_errors_total', 'Background passes that failed', ['pass']),
  };
}
