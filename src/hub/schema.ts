import * as v from 'valibot';

/** What /v1/health answers; null counts are unknown. */
export const HealthAnswer = v.pipe(
  v.object({
    status: v.pipe(
      v.picklist(['ok', 'degraded', 'down']),
      v.description('degraded: Postgres is away, matching works; down: Redis is away'),
    ),
    online_miners: v.nullable(v.number()),
    miners_online: v.pipe(v.nullable(v.number()), v.description('the same as online_miners')),
    avg_latency_ms: v.nullable(v.number()),
    redis: v.picklist(['ok', 'down']),
    postgres: v.picklist(['ok', 'down']),
    version: v.string(),
    uptime_sec: v.number(),
  }),
  v.metadata({ ref: 'HealthAnswer' }),
);

/** What /livez and /readyz answer. */
export const ProbeAnswer = v.pipe(
  v.object({ status: v.picklist(['ok', 'draining', 'down']) }),
  v.metadata({ ref: 'ProbeAnswer' }),
);
