/** The life of a job: every legal transition, in one table. Pure. */

export const JOB_STATES = ['QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELED', 'EXPIRED'] as const;

export type JobState = (typeof JOB_STATES)[number];

interface Transition {
  readonly from: readonly JobState[];
  readonly to: JobState;
}

/** What may happen to a job, by name. Whatever changes a state names one of these, and its UPDATE is guarded by `from`. */
export const TRANSITIONS = {
  assign: { from: ['QUEUED'], to: 'RUNNING' },
  complete: { from: ['RUNNING'], to: 'COMPLETED' },
  fail: { from: ['RUNNING'], to: 'FAILED' },
  /** The miner went away, or drained or lost the job without finishing, and there are attempts left. */
  requeue: { from: ['RUNNING'], to: 'QUEUED' },
  /** As requeue, without attempts left. */
  exhaust: { from: ['RUNNING'], to: 'FAILED' },
  cancel: { from: ['QUEUED', 'RUNNING'], to: 'CANCELED' },
  expire: { from: ['QUEUED', 'RUNNING'], to: 'EXPIRED' },
} as const satisfies Record<string, Transition>;

export type TransitionName = keyof typeof TRANSITIONS;

/** No transition leads out of these. */
const TERMINAL_STATES: readonly JobState[] = JOB_STATES.filter(
  (state) => !Object.values<Transition>(TRANSITIONS).some(({ from }) => from.includes(state)),
);

export function isTerminal(state: JobState): boolean {
  return TERMINAL_STATES.includes(state);
}
