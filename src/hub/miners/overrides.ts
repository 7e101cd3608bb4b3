import { eq } from 'drizzle-orm';
import type { Database } from '../../platform/db.ts';
import type { MinerStore } from './store.ts';
import { miners, priceOverrides } from './tables.ts';

export interface OverrideDeps {
  readonly db: Database;
  readonly miners: Pick<MinerStore, 'setPriceOverride'>;
}

export interface PriceOverride {
  /** Decimal string, tokens per 1,000 s. */
  readonly price: string;
  /** Null: until it is deleted. */
  readonly expiresAt: Date | null;
}

/**
 * Sets the price of a miner over its own, replacing an earlier override: first for good, then in the registry
 * (a miner that is not there now gets it when it registers). Repeating the call is harmless.
 * @returns false when nobody enrolled such a miner
 */
export async function putOverride(
  deps: OverrideDeps,
  minerId: string,
  override: PriceOverride,
): Promise<boolean> {
  const createdAt = new Date();
  const known = await deps.db.run(async (orm) => {
    const found = await orm.select({ id: miners.minerId }).from(miners).where(eq(miners.minerId, minerId));
    if (found.length === 0) return false;
    await orm
      .insert(priceOverrides)
      .values({ minerId, ...override, createdAt })
      .onConflictDoUpdate({ target: priceOverrides.minerId, set: { ...override, createdAt } });
    return true;
  });
  if (known) await deps.miners.setPriceOverride(minerId, override.price, override.expiresAt?.getTime());
  return known;
}

/** Lifts the override of a miner. False when there was none. */
export async function deleteOverride(deps: OverrideDeps, minerId: string): Promise<boolean> {
  const rows = await deps.db.run((orm) =>
    orm
      .delete(priceOverrides)
      .where(eq(priceOverrides.minerId, minerId))
      .returning({ minerId: priceOverrides.minerId }),
  );
  // Also when there was no row: an earlier call may have failed right here.
  await deps.miners.setPriceOverride(minerId, null);
  return rows.length > 0;
}
