import type { FleetKind } from '../../src/cli/fleet.ts';
import type { Undo } from './undo.ts';

/** What a run was asked for; each benchmark reads what concerns it. */
export interface Options {
  readonly miners: number;
  readonly fleet: FleetKind;
  readonly seed: number;
  readonly rounds: number;
  readonly calls: number;
  readonly connections: number;
  readonly seconds: number;
  /** Jobs, or matches, a second. */
  readonly rate: number;
  /** Seconds that a lease lasts; a miner beats three times in it. */
  readonly lease: number;
  /** Jobs that are over before the run. */
  readonly finished: number;
  /** Measurements of the past. */
  readonly rows: number;
}

export interface Benchmark<R> {
  /**
   * Measures. What it starts or creates it adds to `undo` at once.
   * @param progress takes lines for the person who waits
   */
  run(options: Options, undo: Undo, progress: (line: string) => void): Promise<R>;
  /** Whether the run found something wrong; slowness is not. */
  failed(report: R): boolean;
  /** The report for people; JSON is for programs. */
  table(report: R): string;
}
