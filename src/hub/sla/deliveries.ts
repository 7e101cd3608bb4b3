import { createHmac } from 'node:crypto';
import { eq, sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import type { Metrics } from '../../platform/metrics.ts';
import { VERSION } from '../../platform/version.ts';
import { type Alert, alertOf } from './publish.ts';
import { slaAlerts, slaDeliveries, slaWebhooks } from './tables.ts';

interface DeliveryDeps {
  readonly db: Database;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, 'webhookDeliveries'>;
}

interface Due {
  readonly id: number;
  readonly attempts: number;
  readonly url: string;
  readonly secret: string;
  readonly alert: Alert;
}

/** A delivery that was taken is not taken by another worker for this long, whatever becomes of the first. */
const LEASE_SEC = 60;
const TIMEOUT_MS = 5_000;

/** Up to 4 s, doubling, with full jitter: the twelfth attempt comes about an hour after the first. */
const BACKOFF_FIRST_SEC = 2;
const BACKOFF_MAX_SEC = 1_800;
const MAX_ATTEMPTS = 12;
/** With thousands waiting for a webhook that is gone, the attempts of each are far apart: what is older has had its chance. */
const MAX_AGE_MS = 86_400_000;
const MAX_ERROR_CHARS = 200;

/**
 * Sends the deliveries that are due, to each webhook `batch` at a time, for about `budgetMs`; webhooks do not wait for each
 * other, and one that takes nothing of a batch is left alone until the next run. Each delivery is sent at least once: a
 * receiver tells repetitions by the id in `X-Poolhub-Delivery`. The body is signed: `X-Poolhub-Signature: t=<unix sec>,v1=<hex>`,
 * the HMAC-SHA-256 of `<unix sec>.<body>` with the secret of the webhook.
 */
export async function deliverDue(
  deps: DeliveryDeps,
  batch: number,
  budgetMs: number,
): Promise<{ sent: number; failed: number }> {
  const deadline = performance.now() + budgetMs;
  const webhooks = await deps.db.run((orm) => orm.select({ id: slaWebhooks.id }).from(slaWebhooks));
  const total = { sent: 0, failed: 0 };
  const deliverTo = async (webhookId: number) => {
    for (;;) {
      const due = await deps.db.run((orm) => claimDue(orm, webhookId, batch));
      const outcomes = await Promise.all(due.map((delivery) => deliver(deps, delivery)));
      const sent = outcomes.filter(Boolean).length;
      total.sent += sent;
      total.failed += outcomes.length - sent;
      if (sent === 0 || due.length < batch || performance.now() >= deadline) return;
    }
  };
  await Promise.all(webhooks.map(({ id }) => deliverTo(id)));
  return total;
}

/** The signature of a body as the receiver must find it. */
export function signatureOf(secret: string, body: string, unixSec: number): string {
  return `t=${unixSec},v1=${createHmac('sha256', secret).update(`${unixSec}.${body}`).digest('hex')}`;
}

async function claimDue(orm: Orm, webhookId: number, limit: number): Promise<Due[]> {
  const taken = await orm.execute<{ id: string }>(sql`
    update ${slaDeliveries} set attempts = attempts + 1, next_at = now() + make_interval(secs => ${LEASE_SEC})
    where id in (
      select id from ${slaDeliveries} where webhook_id = ${webhookId} and next_at <= now() and failed_at is null
      order by next_at, id limit ${limit} for update skip locked
    )
    returning id`);
  if (taken.length === 0) return [];
  const rows = await orm
    .select()
    .from(slaDeliveries)
    .innerJoin(slaAlerts, eq(slaAlerts.id, slaDeliveries.alertId))
    .innerJoin(slaWebhooks, eq(slaWebhooks.id, slaDeliveries.webhookId))
    .where(
      sql`${slaDeliveries.id} in (${sql.join(
        taken.map(({ id }) => sql`${Number(id)}`),
        sql`, `,
      )})`,
    );
  return rows.map((row) => ({
    id: row.sla_deliveries.id,
    attempts: row.sla_deliveries.attempts,
    url: row.sla_webhooks.url,
    secret: row.sla_webhooks.secret,
    alert: alertOf(row.sla_alerts),
  }));
}

async function deliver({ db, log, metrics }: DeliveryDeps, due: Due): Promise<boolean> {
  const problem = await send(due);
  if (problem === undefined) {
    await db.run((orm) => orm.delete(slaDeliveries).where(eq(slaDeliveries.id, due.id)));
    metrics.webhookDeliveries.inc({ result: 'sent' });
    return true;
  }
  const isOld = Date.now() - Date.parse(due.alert.created_at) > MAX_AGE_MS;
  const givenUp = isOld || due.attempts >= MAX_ATTEMPTS;
  await db.run((orm) =>
    orm
      .update(slaDeliveries)
      .set({
        lastError: problem,
        nextAt: sql`now() + make_interval(secs => ${backoffSec(due.attempts)}::float8)`,
        failedAt: givenUp ? sql`now()` : null,
      })
      .where(eq(slaDeliveries.id, due.id)),
  );
  metrics.webhookDeliveries.inc({ result: givenUp ? 'given_up' : 'retried' });
  log.warn(
    { delivery_id: due.id, attempts: due.attempts, given_up: givenUp, problem },
    'webhook not delivered',
  );
  return false;
}

/** @returns what went wrong; the answer's body is not read */
async function send({ id, url, secret, alert }: Due): Promise<string | undefined> {
  const body = JSON.stringify(alert);
  try {
    const response = await fetch(url, {
      method: 'POST',
      body,
      redirect: 'manual',
      signal: AbortSignal.timeout(TIMEOUT_MS),
      headers: {
        'Content-Type': 'application/json',
        'User-Agent': `pool-hub/${VERSION}`,
        'X-Poolhub-Event': alert.type,
        'X-Poolhub-Delivery': String(id),
        'X-Poolhub-Signature': signatureOf(secret, body, Math.floor(Date.now() / 1000)),
      },
    });
    await response.body?.cancel();
    return response.ok ? undefined : `status ${response.status}`;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return (cause instanceof Error ? cause.message : String(cause)).slice(0, MAX_ERROR_CHARS);
  }
}

function backoffSec(attempts: number): number {
  return Math.random() * Math.min(BACKOFF_MAX_SEC, BACKOFF_FIRST_SEC * 2 ** attempts);
}
