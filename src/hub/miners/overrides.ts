import { and, eq, gt, inArray, isNull, or, type SQL } from 'drizzle-orm';
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

/** Ends the endless turns of administrators who change one override all the time; each of them tells the registry as well. */
const MAX_ROUNDS = 5;

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
  if (known) await settleOverride(deps, minerId);
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
  await settleOverride(deps, minerId);
  return rows.length > 0;
}

/**
 * Tells the registry the override of a miner as Postgres has it, until it has not changed meanwhile. Of several that change it at once the
 * last to tell has then read what the others committed, in whatever order they come.
 */
export async function settleOverride(deps: OverrideDeps, minerId: string): Promise<void> {
  let told: PriceOverride | null | undefined;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const now = (await readOverrides(deps.db, [minerId])).get(minerId) ?? null;
    if (told !== undefined && isSame(now, told)) return;
    await deps.miners.setPriceOverride(minerId, now?.price ?? null, now?.expiresAt?.getTime());
    told = now;
  }
}

/** The overrides of miners that are not over, by miner id. */
export async function readOverrides(
  db: Database,
  minerIds: readonly string[],
): Promise<Map<string, PriceOverride>> {
  const rows = await db.run((orm) =>
    orm
      .select()
      .from(priceOverrides)
      .where(and(inArray(priceOverrides.minerId, [...minerIds]), isLive())),
  );
  return new Map(
    rows.map(({ minerId, price, expiresAt }) => [minerId, { price: withoutZeros(price), expiresAt }]),
  );
}

/** Whether an override is not over. */
export function isLive(): SQL | undefined {
  return or(isNull(priceOverrides.expiresAt), gt(priceOverrides.expiresAt, new Date()));
}

/** numeric(20,8) as Postgres writes it (`0.50000000`), the way a person would (`0.5`). */
export function withoutZeros(price: string): string {
  return price.includes('.') ? price.replace(/\.?0+$/, '') : price;
}

function isSame(a: PriceOverride | null, b: PriceOverride | null): boolean {
  return a?.price === b?.price && a?.expiresAt?.getTime() === b?.expiresAt?.getTime();
}
