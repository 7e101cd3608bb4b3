/** Pure: what a promise is, how far a measurement misses it, and how bad that is. */

/** Sums over one or more spans of time, see tables.ts. */
export interface LevelSums {
  readonly onlineMs: number;
  readonly expectedMs: number;
  readonly completed: number;
  readonly failed: number;
  readonly latencySumMs: number;
  readonly latencyCount: number;
  readonly placesOnline: number;
  readonly placesTotal: number;
}

export const METRIC_TYPES = ['uptime', 'response_time', 'completion_rate', 'capacity'] as const;
export type MetricType = (typeof METRIC_TYPES)[number];

/** What may be violated: the metrics, and the share of the places in use (`capacity_use`). */
export const VIOLATION_TYPES = [...METRIC_TYPES, 'capacity_use'] as const;
export type ViolationType = (typeof VIOLATION_TYPES)[number];

export const SEVERITIES = ['low', 'medium', 'high', 'critical'] as const;

export interface Thresholds {
  readonly sla_uptime_threshold: number;
  readonly sla_response_time_threshold: number;
  readonly sla_completion_rate_threshold: number;
  readonly sla_capacity_threshold: number;
}

/** A metric beside its threshold. */
export interface Level {
  readonly type: MetricType;
  /** Percent, for response_time milliseconds. */
  readonly value: number;
  readonly threshold: number;
  readonly isViolation: boolean;
}

/** Distance from the threshold at which the next severity starts, as a share of the worse of the two. */
const SEVERITY_FROM = [0.05, 0.15, 0.35];

/** The metrics that there is data for; what was not measured is absent, not 0. */
export function levelsOf(sums: LevelSums, thresholds: Thresholds): Level[] {
  const finished = sums.completed + sums.failed;
  const values: [MetricType, number, number][] = [
    ['uptime', percent(sums.onlineMs, sums.expectedMs), thresholds.sla_uptime_threshold],
    ['response_time', sums.latencySumMs / sums.latencyCount, thresholds.sla_response_time_threshold],
    ['completion_rate', percent(sums.completed, finished), thresholds.sla_completion_rate_threshold],
    ['capacity', percent(sums.placesOnline, sums.placesTotal), thresholds.sla_capacity_threshold],
  ];
  return values
    .filter(([, value]) => Number.isFinite(value))
    .map(([type, value, threshold]) => ({
      type,
      value,
      threshold,
      isViolation: misses(type, value, threshold),
    }));
}

/** Whether the value is on the wrong side of its threshold. Less is better of times and use, more of the rest. */
export function misses(type: ViolationType, value: number, threshold: number): boolean {
  if (type === 'capacity_use') return value >= threshold;
  return type === 'response_time' ? value > threshold : value < threshold;
}

/** 0 low to 3 critical, by 1 - smaller/larger of value and threshold: the same scale whichever way is better. */
export function severityRank(value: number, threshold: number): number {
  const larger = Math.max(value, threshold);
  const distance = larger === 0 ? 0 : 1 - Math.min(value, threshold) / larger;
  return SEVERITY_FROM.filter((from) => distance >= from).length;
}

function percent(part: number, whole: number): number {
  return (100 * part) / whole;
}
