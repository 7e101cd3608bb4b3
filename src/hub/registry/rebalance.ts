import { setTimeout as sleep } from 'node:timers/promises';
import { AppError, isConnectionError } from '../../platform/errors.ts';
import { keys, shardPrefix } from '../../platform/keys.ts';
import type { HubDeps } from '../deps.ts';
import { alone } from './alone.ts';
import { compactShards } from './compact.ts';
import { type Layout, shardCount } from './layout.ts';
import { clearShards, emptyJournals } from './rebalance-shards.ts';
import { findAway } from './rebalance-walk.ts';

export type RebalanceDeps = Pick<HubDeps, 'redis' | 'scripts' | 'homes' | 'miners'>;

export interface RebalanceOptions {
  /** How many shards there shall be. */
  readonly shards: number;
  /** Miners, plans and reservations moved a second, at most. */
  readonly perSecond: number;
  /** So many are on their way at once, and seen by no match for about a millisecond. */
  readonly parallel: number;
  /** How long to wait until the worker has emptied the journals of shards that go. */
  readonly journalTimeoutMs: number;
  /** Stops between two moves; run it again to go on, or with the old number to go back. */
  readonly signal: AbortSignal;
  /** Told once every shard knows that miners move. */
  readonly begun: (from: number, to: number) => void;
  /** Told of each that was moved. */
  readonly moved: () => void;
}

export interface RebalanceReport {
  readonly from: number;
  readonly to: number;
  /** Miners, plans of jobs and ended reservations that were moved by this run; others were by the calls for them, or by a run before. */
  readonly moved: number;
  /** False when it was stopped before all had moved. */
  readonly done: boolean;
}

/** The first moves nearly all; what calls are at work on meanwhile is left to the next. */
const PASSES_MAX = 20;
const PATIENCE_MS = 15_000;
const BACKOFF_MS = { first: 50, most: 2_000 };

/**
 * Changes the number of shards while the registry serves. May be run again at any time: it goes on where it was, or, given the number that it
 * came from, goes back.
 * @throws AppError `conflict` when another change is under way, `unavailable` when no worker empties the journals; what Redis throws.
 *   The registry serves on in any case, and the next run goes on.
 */
export function rebalance(deps: RebalanceDeps, options: RebalanceOptions): Promise<RebalanceReport> {
  const key = keys.rebalance(shardPrefix(deps.scripts.prefix, 0));
  return alone(deps.redis, key, () => changeShards(deps, options), conflict);
}

async function changeShards(deps: RebalanceDeps, options: RebalanceOptions): Promise<RebalanceReport> {
  const layout = await beginMoving(deps, options.shards);
  const { moving } = layout;
  if (moving === undefined) return { from: layout.shards, to: layout.shards, moved: 0, done: true };
  options.begun(layout.shards, moving.shards);
  const moved = await moveAll(deps, options);
  const report = { from: layout.shards, to: moving.shards, moved };
  if (options.signal.aborted) return { ...report, done: false };
  const all = shardCount(layout);
  await emptyJournals(deps, moving.shards, all, options.journalTimeoutMs);
  await change(deps, layout, { version: layout.version + 1, shards: moving.shards });
  await clearShards(deps, moving.shards);
  if (moving.shards > layout.shards) await compactShards(deps, layout.shards);
  return { ...report, done: true };
}

/** @returns the layout while miners move to the wanted number; without `moving` when there is nothing to do */
async function beginMoving(deps: RebalanceDeps, wanted: number): Promise<Layout> {
  const layout = await deps.homes.layouts.refresh();
  const { version, shards, moving } = layout;
  if (moving?.shards === wanted) {
    // Whoever began it may have died before every shard knew.
    await change(deps, layout, { ...layout, version: version + 1 });
    return deps.homes.layouts.current;
  }
  if (moving !== undefined && shards !== wanted) {
    throw new AppError(
      'conflict',
      `the registry moves from ${shards} to ${moving.shards} shards: finish that, or go back to ${shards}`,
    );
  }
  if (moving === undefined) {
    // What a change that died has left; a stale clock in a new shard would look like an outage.
    await clearShards(deps, shards);
    if (shards === wanted) return layout;
  }
  const { registered } = await deps.miners.stats();
  await change(deps, layout, {
    version: version + 1,
    shards: moving?.shards ?? shards,
    moving: { shards: wanted, fleet: Math.max(1, registered) },
  });
  return deps.homes.layouts.current;
}

async function change(deps: RebalanceDeps, from: Layout, to: Layout): Promise<void> {
  if (await deps.homes.layouts.change(from, to)) return;
  conflict();
}

function conflict(): never {
  throw new AppError('conflict', 'the number of shards is being changed by somebody else');
}

/** Moves until nothing is away from home any more. @returns how many were moved */
async function moveAll(deps: RebalanceDeps, options: RebalanceOptions): Promise<number> {
  let moved = 0;
  let nextAtMs = 0;
  const pace = async () => {
    const nowMs = performance.now();
    nextAtMs = Math.max(nextAtMs, nowMs) + 1000 / options.perSecond;
    await sleep(nextAtMs - nowMs);
  };
  for (let pass = 0; pass < PASSES_MAX; pass++) {
    let found = 0;
    const away = findAway(deps, deps.homes.layouts.current);
    const takeTurns = async () => {
      for await (const { kind, id } of away) {
        if (options.signal.aborted) return;
        found++;
        await pace();
        const bring = () =>
          kind === 'miner' ? deps.homes.bring(id) : deps.homes.bringEntry(`${kind}:${id}`);
        if (!(await patiently(bring))) continue;
        moved++;
        options.moved();
      }
    };
    await Promise.all(Array.from({ length: options.parallel }, takeTurns));
    if (found === 0 || options.signal.aborted) return moved;
  }
  throw new AppError('unavailable', 'some could not be moved; run it again', { retry_after_sec: 10 });
}

/** A master that is replaced, or a slot that moves, takes seconds. */
async function patiently<T>(work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  for (let waitMs = BACKOFF_MS.first; ; waitMs = Math.min(BACKOFF_MS.most, waitMs * 2)) {
    try {
      return await work();
    } catch (error) {
      const passing = isConnectionError(error) || (error instanceof AppError && error.code === 'unavailable');
      if (!passing || performance.now() > deadline) throw error;
      await sleep(waitMs * (0.5 + Math.random()));
    }
  }
}
