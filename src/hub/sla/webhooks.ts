import { asc, notInArray, sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import { slaWebhooks } from './tables.ts';

export interface Webhook {
  readonly url: string;
  /** Signs what is sent there; never shown again. */
  readonly secret: string;
}

/** Makes the webhooks those that are given; what is on its way to others is dropped with them. */
export async function replaceWebhooks(db: Database, webhooks: readonly Webhook[]): Promise<void> {
  const urls = webhooks.map(({ url }) => url);
  await db.run((orm) =>
    orm.delete(slaWebhooks).where(urls.length > 0 ? notInArray(slaWebhooks.url, urls) : sql`true`),
  );
  if (webhooks.length === 0) return;
  await db.run((orm) =>
    orm
      .insert(slaWebhooks)
      .values([...new Map(webhooks.map((webhook) => [webhook.url, { ...webhook }])).values()])
      .onConflictDoUpdate({ target: slaWebhooks.url, set: { secret: sql`excluded.secret` } }),
  );
}

/** Where alerts go. */
export async function listWebhooks(orm: Orm): Promise<{ url: string }[]> {
  return orm.select({ url: slaWebhooks.url }).from(slaWebhooks).orderBy(asc(slaWebhooks.id));
}
