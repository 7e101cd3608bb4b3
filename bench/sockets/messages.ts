import type { FleetKind } from '../../src/cli/fleet.ts';

/** Miners `from` to `to` (without it) of a fleet, and the hub that they live with. */
export interface FleetPart {
  readonly url: string;
  readonly from: number;
  readonly to: number;
  readonly seed: number;
  readonly kind: FleetKind;
}

/** What the benchmark asks of a process with miners, in this order; each is answered once. */
export type Ask =
  | { readonly ask: 'connect'; readonly part: FleetPart }
  /** From now on heartbeats are counted. */
  | { readonly ask: 'measure' }
  /** Ends the counting. */
  | { readonly ask: 'report' }
  /** No miner beats any more; the sockets stay. */
  | { readonly ask: 'silence' };

/** How many there were of each reason. */
export type Counts = Readonly<Record<string, number>>;

/** Answer to every question. */
export interface Answer {
  /** Miners that could not register or open their socket. */
  readonly refused: Counts;
  /** Sockets that are open. */
  readonly open: number;
  /** Of those that closed, as far as a heartbeat has noticed. */
  readonly lost: Counts;
  /** Heartbeats that were answered with an error; the socket stays. */
  readonly failed: Counts;
  /** Microseconds from sending each counted heartbeat to its answer. */
  readonly delaysUs: readonly number[];
  /** Microseconds from the moment that the server had set for it to its answer. */
  readonly lateUs: readonly number[];
  /** Processor time of this process so far. */
  readonly cpuMs: number;
}
