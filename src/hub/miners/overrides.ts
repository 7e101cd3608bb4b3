import { and, asc, eq, gt, inArray, isNull, or, type SQL } from 'drizzle-orm';
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

/** What the registry holds of an override, '' for what it does not hold. */
export interface HeldOverride {
  readonly price: string;
  readonly untilMs: string;
}

/** Ends the endless turns of administrators who change one override all the time; each of them tells the registry as well. */
const MAX_ROUNDS = 5;

const PAGE = 200;

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
async function settleOverride(deps: OverrideDeps, minerId: string): Promise<void> {
  let told: PriceOverride | null | undefined;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const now = (await readOverrides(deps.db, [minerId])).get(minerId) ?? null;
    if (told !== undefined && isSame(now, told)) return;
    await deps.miners.setPriceOverride(minerId, now?.price ?? null, now?.expiresAt?.getTime());
    told = now;
  }
}

/** Tells the registry the override of a miner when it holds another. @returns whether it did */
export async function checkOverride(
  deps: OverrideDeps,
  minerId: string,
  held: HeldOverride,
  override: PriceOverride | undefined,
): Promise<boolean> {
  const isHeld = held.price === (override?.price ?? '');
  if (isHeld && held.untilMs === String(override?.expiresAt?.getTime() ?? '')) return false;
  await settleOverride(deps, minerId);
  return true;
}

/**
 * Tells the registry the overrides that it does not hold, of the miners that are in it: a Redis that took over may have lost its last moments, and a
 * call may have failed once Postgres had the override.
 * @param after where the last run ended, '' for the start
 * @param budgetMs no page is begun after this long
 * @returns where this run ended, '' for the end
 */
export async function restoreOverrides(
  deps: OverrideDeps & { readonly miners: Pick<MinerStore, 'get'> },
  after: string,
  budgetMs: number,
): Promise<{ after: string; told: number }> {
  const deadline = performance.now() + budgetMs;
  let told = 0;
  let last = after;
  do {
    const page = await selectOverrides(deps.db, gt(priceOverrides.minerId, last), PAGE);
    const checks = [...page].map(async ([minerId, override]) => {
      const hash = await deps.miners.get(minerId);
      if (hash === undefined) return;
      const held = { price: hash.price_override ?? '', untilMs: hash.price_override_until_ms ?? '' };
      if (await checkOverride(deps, minerId, held, override)) told += 1;
    });
    await Promise.all(checks);
    last = page.size < PAGE ? '' : ([...page.keys()].at(-1) as string);
  } while (last !== '' && performance.now() < deadline);
  return { after: last, told };
}

/** The overrides of miners that are not over, by miner id. */
export function readOverrides(
  db: Database,
  minerIds: readonly string[],
): Promise<Map<string, PriceOverride>> {
  return selectOverrides(db, inArray(priceOverrides.minerId, [...minerIds]), minerIds.length);
}

/** In the order of miner ids. */
async function selectOverrides(db: Database, which: SQL, limit: number): Promise<Map<string, PriceOverride>> {
  const rows = await db.run((orm) =>
    orm
      .select()
      .from(priceOverrides)
      .where(and(which, isLive()))
      .orderBy(asc(priceOverrides.minerId))
      .limit(limit),
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
