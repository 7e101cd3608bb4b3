import type { JobState } from './states.ts';

/** A job as clients see it. */
export interface JobView {
  readonly job_id: string;
  readonly state: JobState;
  readonly assigned_miner_id: string | null;
  readonly requested_at: string;
  readonly expires_at: string;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** The columns of `jobs` that a view and a notice are made of, as they come from the driver. */
export interface ViewRow extends Record<string, unknown> {
  readonly job_id: string;
  readonly client_id: string;
  readonly revision: number;
  readonly state: JobState;
  readonly assigned_miner_id: string | null;
  readonly requested_at: string;
  readonly expires_at: string;
  readonly error_code: string | null;
  readonly error_message: string | null;
}

/** The columns of ViewRow, in SQL. */
export const VIEW_COLUMNS =
  'job_id, client_id, revision, state, assigned_miner_id, requested_at, expires_at, error_code, error_message';

/** The same with the name of a table before each. */
export function viewColumnsOf(table: string): string {
  return VIEW_COLUMNS.replace(/\w+/g, (column) => `${table}.${column}`);
}

export function viewOf(row: ViewRow): JobView {
  return {
    job_id: row.job_id,
    state: row.state,
    assigned_miner_id: row.assigned_miner_id,
    requested_at: isoOf(row.requested_at),
    expires_at: isoOf(row.expires_at),
    error: errorOf(row),
  };
}

/** Why the job did not complete; null for one that may yet, or did. */
export function errorOf({ state, error_code, error_message }: ViewRow): JobView['error'] {
  if (error_code !== null) return { code: error_code, message: error_message ?? '' };
  if (state === 'CANCELED') return { code: 'canceled', message: 'the client canceled the job' };
  if (state === 'EXPIRED') return { code: 'expired', message: 'the job was not finished within its time' };
  return null;
}

/** The driver gives moments as Postgres writes them. */
export function isoOf(moment: string): string {
  return new Date(moment).toISOString();
}
