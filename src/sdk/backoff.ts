export interface BackoffLimits {
  /** Ceiling of the first wait, ms; it doubles with every attempt. */
  readonly baseMs: number;
  /** The ceiling never grows past this, ms. */
  readonly capMs: number;
}

/**
 * Exponential backoff with full jitter: uniform in [0, min(cap, base * 2^attempt)). Of the usual kinds it lets a crowd of clients
 * that failed together return with the fewest collisions (Brooker, "Exponential Backoff And Jitter", 2015).
 * @param attempt failures so far, from 0
 * @returns milliseconds to wait
 */
export function fullJitterMs(attempt: number, { baseMs, capMs }: BackoffLimits): number {
  return Math.random() * Math.min(capMs, baseMs * 2 ** attempt);
}
