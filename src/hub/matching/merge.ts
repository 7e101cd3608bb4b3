import { startOf } from './compile.ts';
import { compareFound } from './score.ts';
import type { Found } from './types.ts';

/** What one shard found: its best, best first, and how many of its miners match at all. */
export interface ShardFound {
  readonly found: readonly Found[];
  readonly feasible: number;
}

/**
 * Merges the best of each shard, best first. Equals of several shards take turns by the job, as equals of one shard do by their slots: those
 * of a shard come up as in a Poisson process with the rate of its matching miners, drawn from the job's id. So each miner of the pool has
 * the same chance to be first, however unevenly they are spread over the shards, and a retry sees the same order.
 */
export function mergeFound(jobId: string, shards: readonly ShardFound[]): Found[] {
  const equals = new Map<string, Found[][]>();
  for (const { found } of shards) {
    const groups = new Map<string, Found[]>();
    for (const candidate of found) {
      const name = `${candidate.degraded} ${candidate.score}`;
      const group = groups.get(name) ?? [];
      group.push(candidate);
      groups.set(name, group);
    }
    for (const [name, group] of groups) equals.set(name, [...(equals.get(name) ?? []), group]);
  }
  const ofSeveral = [...equals.values()].filter((groups) => groups.length > 1).flat();
  const turns = new Map(ofSeveral.flatMap((group) => turnsOf(jobId, group, shards)));
  return shards
    .flatMap(({ found }) => found)
    .map((candidate) => ({ ...candidate, turn: turns.get(candidate) ?? candidate.turn }))
    .sort(compareFound);
}

/** When each of some equals of one shard comes up, in their order. */
function turnsOf(jobId: string, group: readonly Found[], shards: readonly ShardFound[]): [Found, number][] {
  let turn = 0;
  return group.map((candidate, rank) => {
    const { shard } = candidate;
    const wait = -Math.log(1 - startOf(`${shard}.${rank}.${jobId}`));
    turn += wait / Math.max(1, shards[shard]?.feasible ?? 1);
    return [candidate, turn];
  });
}
