import { openRegistry } from '../platform/metrics.ts';

export type CoordinatorMetrics = ReturnType<typeof createCoordinatorMetrics>;

/**
 * The metrics of one coordinator process, in a registry of their own. No label holds an id or anything else that a client chose freely.
 * @param options as of `openRegistry`
 */
export function createCoordinatorMetrics(options: { process: boolean } = { process: true }) {
  const { registry, counter, gauge, latency } = openRegistry(options);
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
