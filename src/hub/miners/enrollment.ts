import { createHmac, randomBytes } from 'node:crypto';
import { and, asc, eq, gt, isNotNull, sql } from 'drizzle-orm';
import type { Config } from '../../platform/config.ts';
import type { Database } from '../../platform/db.ts';
import { isLive, withoutZeros } from './overrides.ts';
import type { MinerStore } from './store.ts';
import { miners, priceOverrides } from './tables.ts';
import type { DurableState } from './types.ts';

export interface EnrollmentDeps {
  readonly db: Database;
  readonly config: Pick<Config, 'api_key_pepper' | 'miner_enrollment'>;
}

export interface KeyDeps extends EnrollmentDeps {
  readonly miners: Pick<MinerStore, 'forgetKey' | 'remove'>;
}

/** A miner's key as the administrator sees it afterwards: never the key, never its digest. */
export interface KeyInfo {
  readonly miner_id: string;
  readonly active: boolean;
  readonly key_created_at: string | null;
  readonly key_revoked_at: string | null;
}

export type Authorization = { status: 'ok'; durable: DurableState } | { status: 'refused' };

const KEY_PREFIX = 'phk_';
const KEY_BYTES = 32;

/**
 * Digest under which a key is stored: HMAC-SHA-256 with the server key, hex. Keys are long and random, so a
 * slow password hash would add nothing; the server key makes a stolen table useless.
 */
export function digestKey(pepper: string, apiKey: string): string {
  return createHmac('sha256', pepper).update(apiKey, 'utf8').digest('hex');
}

/**
 * Enrolls a miner, or gives an enrolled one another key: the old key stops working, the running session goes
 * on. The key is in the answer and nowhere else.
 * @throws AppError `unavailable` while Postgres is away, and what Redis throws (then ask again)
 */
export async function createKey(
  deps: KeyDeps,
  minerId: string,
): Promise<{ api_key: string; created: boolean }> {
  const api_key = KEY_PREFIX + randomBytes(KEY_BYTES).toString('base64url');
  const apiKeyHash = digestKey(deps.config.api_key_pepper, api_key);
  const now = new Date();
  const rows = await deps.db.run(
    (orm) =>
      orm
        .insert(miners)
        .values({ minerId, apiKeyHash, keyCreatedAt: now, createdAt: now })
        .onConflictDoUpdate({
          target: miners.minerId,
          set: { apiKeyHash, keyCreatedAt: now, keyRevokedAt: null },
        })
        .returning({ created: sql<boolean>`xmax = 0` }), // xmax is 0 on a row that this statement inserted.
  );
  await deps.miners.forgetKey(minerId);
  return { api_key, created: rows[0]?.created === true };
}

/**
 * Voids the key of a miner and takes the miner out of the registry, session and all. False when the miner is
 * unknown or its key was void already.
 * @throws AppError `unavailable` while Postgres is away, and what Redis throws (then ask again)
 */
export async function revokeKey(deps: KeyDeps, minerId: string): Promise<boolean> {
  const rows = await deps.db.run((orm) =>
    orm
      .update(miners)
      .set({ apiKeyHash: null, keyRevokedAt: new Date() })
      .where(and(eq(miners.minerId, minerId), isNotNull(miners.apiKeyHash)))
      .returning({ minerId: miners.minerId }),
  );
  // Also when the key was void: an earlier call may have failed right here.
  await deps.miners.remove(minerId, 'key_revoked');
  return rows.length > 0;
}

/** Keys in the order of miner ids, `limit` at a time, after `afterMinerId`. */
export async function listKeys(
  deps: EnrollmentDeps,
  page: { afterMinerId?: string; limit: number },
): Promise<KeyInfo[]> {
  const rows = await deps.db.run((orm) =>
    orm
      .select({
        minerId: miners.minerId,
        active: isNotNull(miners.apiKeyHash),
        keyCreatedAt: miners.keyCreatedAt,
        keyRevokedAt: miners.keyRevokedAt,
      })
      .from(miners)
      .where(gt(miners.minerId, page.afterMinerId ?? ''))
      .orderBy(asc(miners.minerId))
      .limit(page.limit),
  );
  return rows.map((row) => ({
    miner_id: row.minerId,
    active: row.active === true,
    key_created_at: row.keyCreatedAt?.toISOString() ?? null,
    key_revoked_at: row.keyRevokedAt?.toISOString() ?? null,
  }));
}

/**
 * Decides, for a miner that Redis does not know, whether `keyDigest` may register it, and hands back what
 * Postgres remembers of it. With open enrollment the first key that an id comes with is bound to it, by
 * whichever replica inserts the row first. A revoked id stays refused: its row is there, and has no key.
 * @throws AppError `unavailable` while Postgres is away
 */
export async function authorizeMiner(
  deps: EnrollmentDeps,
  minerId: string,
  keyDigest: string,
): Promise<Authorization> {
  const now = new Date();
  const row = await deps.db.run(async (orm) => {
    if (deps.config.miner_enrollment === 'open') {
      await orm
        .insert(miners)
        .values({ minerId, apiKeyHash: keyDigest, keyCreatedAt: now, createdAt: now })
        // It shows itself, so that it is not forgotten at this moment as one that is silent.
        .onConflictDoUpdate({
          target: miners.minerId,
          set: { lastSeenAt: now },
          setWhere: eq(miners.apiKeyHash, keyDigest),
        });
    }
    const rows = await orm
      .select({ miner: miners, price: priceOverrides.price, priceUntil: priceOverrides.expiresAt })
      .from(miners)
      .leftJoin(priceOverrides, and(eq(priceOverrides.minerId, miners.minerId), isLive()))
      .where(eq(miners.minerId, minerId));
    return rows[0];
  });
  if (row === undefined || row.miner.apiKeyHash !== keyDigest) return { status: 'refused' };
  return {
    status: 'ok',
    durable: {
      alpha: row.miner.trustAlpha,
      beta: row.miner.trustBeta,
      trustSeq: row.miner.trustSeq,
      observedLatencyMs: row.miner.observedLatencyMs ?? '',
      observedSamples: row.miner.observedLatencySamples,
      priceOverride: row.price === null ? '' : withoutZeros(row.price),
      priceOverrideUntilMs: row.priceUntil?.getTime() ?? '',
    },
  };
}
