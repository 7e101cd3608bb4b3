import { type SQL, sql } from 'drizzle-orm';
import { isTerminal, type JobState, TRANSITIONS, type TransitionName } from './states.ts';

/** Now, not rounded up to the milliseconds of a column: what opens is open. */
export const NOW_MS = "date_trunc('milliseconds', now())";

/** The condition under which a transition is legal, on a row of `jobs`. */
export function mayChange(name: TransitionName): SQL {
  return isIn('jobs', ...TRANSITIONS[name].from);
}

/**
 * Whether a job that was found by its id is in one of these states. Postgres does not look inside of the expression: it would take a short index of
 * jobs in that state for the way to the job, and read all of it.
 */
export function isIn(table: string, ...states: readonly JobState[]): SQL {
  return sql.raw(`(${table}.state || '') in (${states.map((state) => `'${state}'`).join(', ')})`);
}

/** What every transition sets, beside what the caller adds: the state, the count of changes, and what the new state has no use for. */
export function change(name: TransitionName): SQL {
  const { to } = TRANSITIONS[name];
  const parts = [`state = '${to}'`, 'revision = jobs.revision + 1'];
  if (to !== 'RUNNING') parts.push('slot = null');
  if (to === 'QUEUED')
    parts.push('assigned_miner_id = null', 'started_at = null', 'delivered_at = null', `open_at = ${NOW_MS}`);
  if (isTerminal(to)) parts.push('finished_at = now()');
  return sql.raw(parts.join(', '));
}
