/**
 * Trust as the mean of a Beta distribution (the beta reputation system: Josang, Ismail, "The Beta Reputation
 * System", 2002), with a prior of 2/2 and evidence that fades. Pure: no clock, no store.
 */

export type Outcome = 'accepted' | 'rejected' | 'failed' | 'completed';

/** Pseudo-observations that every miner starts with: one is not judged by its very first job. */
export const TRUST_PRIOR = Object.freeze({ alpha: 2, beta: 2 });

const REJECTED_WEIGHT = 0.2;
const TRANSIENT_FAILURE_WEIGHT = 0.25;

/** Share of the newest sample in the moving average: about the last ten samples matter. */
const LATENCY_EWMA_WEIGHT = 0.2;

const DAY_MS = 86_400_000;

/** What one feedback adds to alpha and beta, before decay. */
export interface TrustEvidence {
  readonly alphaAdded: number;
  readonly betaAdded: number;
}

/** `atMs` is when alpha or beta last moved (Unix milliseconds), null when they never did. */
export interface TrustState {
  readonly alpha: number;
  readonly beta: number;
  readonly atMs: number | null;
}

/** Moving average of the latencies that coordinators reported for completed jobs. */
export interface ObservedLatency {
  readonly meanMs: number | null;
  readonly samples: number;
}

/**
 * The evidence in one outcome: completed is one success; failed is one failure, or a quarter of one when the
 * code is transient (not the miner's own fault); rejected is a fifth of a failure; accepted says nothing yet.
 */
export function evidenceOf(
  outcome: Outcome,
  failCode: string | null,
  transientCodes: readonly string[],
): TrustEvidence {
  switch (outcome) {
    case 'accepted':
      return { alphaAdded: 0, betaAdded: 0 };
    case 'completed':
      return { alphaAdded: 1, betaAdded: 0 };
    case 'rejected':
      return { alphaAdded: 0, betaAdded: REJECTED_WEIGHT };
    case 'failed': {
      const transient = failCode !== null && transientCodes.includes(failCode);
      return { alphaAdded: 0, betaAdded: transient ? TRANSIENT_FAILURE_WEIGHT : 1 };
    }
  }
}

/**
 * One step: what is above the prior first decays by half every `halfLifeDays`, then the evidence is added.
 * Evidence of nothing changes nothing. A feedback that is older than the last step (it waited in the journal)
 * neither decays nor moves the time back.
 */
export function stepTrust(
  state: TrustState,
  evidence: TrustEvidence,
  nowMs: number,
  halfLifeDays: number,
): TrustState {
  if (evidence.alphaAdded === 0 && evidence.betaAdded === 0) return state;
  const elapsedMs = state.atMs === null ? 0 : Math.max(0, nowMs - state.atMs);
  const kept = 2 ** (-elapsedMs / (halfLifeDays * DAY_MS));
  return {
    alpha: TRUST_PRIOR.alpha + (state.alpha - TRUST_PRIOR.alpha) * kept + evidence.alphaAdded,
    beta: TRUST_PRIOR.beta + (state.beta - TRUST_PRIOR.beta) * kept + evidence.betaAdded,
    atMs: state.atMs === null ? nowMs : Math.max(state.atMs, nowMs),
  };
}

/** The mean of Beta(alpha, beta): a number in (0, 1). */
export function trustScore(state: Pick<TrustState, 'alpha' | 'beta'>): number {
  return state.alpha / (state.alpha + state.beta);
}

/** The moving average after one more completed job of `latencyMs` milliseconds. */
export function observeLatency(observed: ObservedLatency, latencyMs: number): ObservedLatency {
  const meanMs =
    observed.meanMs === null
      ? latencyMs
      : observed.meanMs + LATENCY_EWMA_WEIGHT * (latencyMs - observed.meanMs);
  return { meanMs, samples: observed.samples + 1 };
}
