import * as v from 'valibot';
import { body, integer, maybe, pattern, quantity, words } from '../../platform/fields.ts';
import { webUrl } from '../../platform/settings.ts';
import { MinerId } from '../miners/schema.ts';
import { METRIC_TYPES, SEVERITIES, VIOLATION_TYPES } from './levels.ts';

const MAX_HOURS = 24 * 36_500;
const MAX_PAGE = 1_000;
const MAX_WEBHOOKS = 10;
const MAX_URL_CHARS = 2_000;
const MIN_SECRET_CHARS = 16;
const MAX_SECRET_CHARS = 256;
const MAX_FORECAST_HOURS = 720;

const digits = (min: number, max: number, fallback: string) =>
  v.pipe(
    v.optional(v.pipe(v.string(), v.regex(/^\d{1,9}$/, 'must be a whole number')), fallback),
    v.transform(Number),
    integer(min, max),
  );

const cursorLike = (regex: RegExp) => v.optional(pattern(regex, 'must be a cursor that this call gave'));
const cursor = cursorLike(/^\d{1,15}$/);
const metricsCursor = cursorLike(/^\d{1,15}\.\d{1,5}\.[A-Za-z0-9._:-]{0,64}$/);

export const MinerParams = v.object({ id: MinerId });

export const MetricsQuery = v.object({
  hours: v.pipe(digits(1, MAX_HOURS, '24'), v.description('how far to look back')),
  metric_type: v.optional(v.picklist(METRIC_TYPES)),
  limit: v.pipe(
    digits(1, MAX_PAGE, '200'),
    v.description('measurements of a page; each has up to four metrics'),
  ),
  cursor: v.pipe(metricsCursor, v.description('X-Next-Cursor of the page before')),
});

export const MetricsAnswer = v.array(
  v.pipe(
    v.object({
      id: v.string(),
      miner_id: v.pipe(v.nullable(v.string()), v.description('null for the pool')),
      metric_type: v.picklist(METRIC_TYPES),
      metric_value: v.pipe(v.number(), v.description('percent; response_time in milliseconds')),
      threshold: v.number(),
      is_violation: v.boolean(),
      timestamp: v.pipe(v.string(), v.description('when it was last measured')),
      metadata: v.object({
        span_start: v.string(),
        span_sec: v.number(),
        samples: v.pipe(v.number(), v.description('jobs, milliseconds or places that it was computed from')),
      }),
    }),
    v.metadata({ ref: 'SlaMetric' }),
  ),
);

export const ViolationsQuery = v.object({
  miner_id: v.optional(MinerId),
  resolved: v.optional(
    v.pipe(
      v.picklist(['true', 'false'], 'must be true or false'),
      v.transform((text) => text === 'true'),
    ),
  ),
  limit: digits(1, MAX_PAGE, '200'),
  cursor,
});

export const ViolationsAnswer = v.array(
  v.pipe(
    v.object({
      id: v.string(),
      miner_id: v.pipe(v.nullable(v.string()), v.description('null for the pool')),
      violation_type: v.picklist(VIOLATION_TYPES),
      severity: v.pipe(v.picklist(SEVERITIES), v.description('the worst it was')),
      metric_value: v.number(),
      threshold: v.number(),
      created_at: v.string(),
      resolved_at: v.nullable(v.string()),
      duration_ms: v.pipe(v.number(), v.description('until it was resolved, or until now')),
    }),
    v.metadata({ ref: 'SlaViolation' }),
  ),
);

export const CollectionAnswer = v.pipe(
  v.object({
    collected_at: v.string(),
    miners: v.number(),
    online: v.number(),
    violations_opened: v.number(),
    violations_resolved: v.number(),
  }),
  v.metadata({ ref: 'SlaCollection' }),
);

export const CollectionPending = v.pipe(
  v.object({ status: v.literal('pending'), task_id: v.string(), hint: v.string() }),
  v.description('it is not finished; the hint says why, and where to look'),
);

export const StatusAnswer = v.pipe(
  v.object({
    status: v.pipe(
      v.picklist(['healthy', 'degraded', 'violated']),
      v.description('violated: a high or critical violation is open; degraded: another one is'),
    ),
    active_violations: v.number(),
    by_severity: v.object(v.entriesFromList(SEVERITIES, v.number())),
    miners_measured: v.number(),
    miners_in_violation: v.number(),
    last_collection: v.nullable(CollectionAnswer),
    thresholds: v.object(v.entriesFromList(METRIC_TYPES, v.number())),
  }),
  v.metadata({ ref: 'SlaStatus' }),
);

export const SnapshotsQuery = v.object({
  hours: digits(1, MAX_HOURS, '24'),
  limit: digits(1, MAX_PAGE, '500'),
  cursor,
});

export const SnapshotsAnswer = v.array(
  v.pipe(
    v.object({
      timestamp: v.string(),
      miners: v.number(),
      miners_online: v.number(),
      places_total: v.number(),
      places_online: v.number(),
      places_used: v.number(),
      use_pct: v.pipe(
        v.nullable(v.number()),
        v.description('of the places online; null when there are none'),
      ),
      capacity_pct: v.nullable(v.number()),
    }),
    v.metadata({ ref: 'CapacitySnapshot' }),
  ),
);

export const ForecastQuery = v.object({
  hours_ahead: v.optional(digits(1, MAX_FORECAST_HOURS, '168')),
});

const interval = v.object({ lower: v.number(), upper: v.number() });

export const ForecastAnswer = v.pipe(
  v.object({
    method: v.picklist(['holt_winters_daily', 'holt_winters_weekly', 'holt', 'mean', 'none']),
    unit: v.literal('places_used'),
    generated_at: v.string(),
    history_hours: v.number(),
    missing_hours: v.pipe(v.number(), v.description('hours in between without a snapshot')),
    backtest: v.nullable(
      v.pipe(
        v.object({
          mae: v.number(),
          naive_mae: v.pipe(v.number(), v.description('of the seasonal naive forecast over the same hours')),
          coverage_95: v.number(),
          points: v.number(),
        }),
        v.description('errors of this method on its own past, null when that is too short'),
      ),
    ),
    points: v.array(
      v.object({ timestamp: v.string(), expected: v.number(), interval_80: interval, interval_95: interval }),
    ),
  }),
  v.metadata({ ref: 'CapacityForecast' }),
);

export const RecommendationsAnswer = v.pipe(
  v.object({
    generated_at: v.string(),
    alert_threshold_pct: v.number(),
    peak_expected: v.nullable(v.number()),
    peak_upper_95: v.nullable(v.number()),
    peak_at: v.nullable(v.string()),
    places_online: v.number(),
    places_needed: v.pipe(
      v.nullable(v.number()),
      v.description('so that the upper bound stays under the threshold; null without a forecast'),
    ),
    recommendations: v.array(
      v.object({
        action: v.picklist(['add', 'keep', 'release']),
        miners: v.number(),
        gpu_name: v.nullable(v.string()),
        places_each: v.nullable(v.number()),
        reason: v.string(),
      }),
    ),
  }),
  v.metadata({ ref: 'CapacityRecommendations' }),
);

const WebhookUrl = v.pipe(words(1, MAX_URL_CHARS), webUrl());

export const AlertsRequest = v.pipe(
  body({
    threshold_pct: v.pipe(maybe(quantity(1, 100)), v.description('of use, from which on an alert is given')),
    webhooks: v.pipe(
      maybe(
        v.pipe(
          v.array(body({ url: WebhookUrl, secret: words(MIN_SECRET_CHARS, MAX_SECRET_CHARS) })),
          v.maxLength(MAX_WEBHOOKS, `must have at most ${MAX_WEBHOOKS} items`),
        ),
      ),
      v.description('all of them: those that are not named are forgotten'),
    ),
  }),
  v.metadata({ ref: 'CapacityAlertsRequest' }),
);

export const AlertsAnswer = v.pipe(
  v.object({
    status: v.literal('ok'),
    threshold_pct: v.number(),
    webhooks: v.array(v.object({ url: v.string() })),
  }),
  v.metadata({ ref: 'CapacityAlerts' }),
);
