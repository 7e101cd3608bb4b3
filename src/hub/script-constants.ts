import type { Config } from '../platform/config.ts';
import type { LuaConstant } from '../platform/scripts.ts';

/** Limits of one match call. A test makes them small, so that small fleets take the walk that large ones do. */
export interface WalkLimits {
  /** At most this many feasible miners are read and scored outright. */
  few: number;
  /** A cell with more miners than this is split further. */
  crowd: number;
  /** From this many slots of a shard on, `few` and `crowd` grow with them. */
  slots: number;
  /** Read from a cell that cannot be split further. */
  sample: number;
  /** Records read per call, at most; past it the answer is `truncated`. */
  budget: number;
  /** A bin that a limit cuts through is settled record by record when it has at most this many feasible miners. */
  cut: number;
}

/** Chosen on the benchmark of bench/: see docs/adr for the figures. */
export const WALK_LIMITS: WalkLimits = {
  few: 32,
  crowd: 32,
  slots: 200_000,
  sample: 128,
  budget: 2000,
  cut: 64,
};

/** The settings that every script call of the fleet must agree on, as the table `C` of the scripts. */
export function scriptConstants(config: Config, walk: WalkLimits = WALK_LIMITS): Record<string, LuaConstant> {
  return {
    strategies: Object.entries(config.strategies).map(([name, weights]) => ({ name, ...weights })),
    session_ttl_ms: config.session_ttl_sec * 1000,
    grace_ms: config.heartbeat_grace_sec * 1000,
    heartbeat_target_per_sec: config.heartbeat_target_per_sec,
    // As long as the registry's layout is not known, which has the last word on both (registry/layout.ts).
    shards: config.redis_shards,
    moving_fleet: 0,
    max_terms: config.max_terms_per_shard,
    max_commands: config.commands_max_pending,
    journal_max: config.journal_max_entries,
    preserve_pct: config.self_preservation_pct,
    preserve_min: config.self_preservation_min_miners,
    walk: { ...walk },
  };
}
