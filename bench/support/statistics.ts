/** The middle value, or the mean of the two in the middle. @throws TypeError for an empty list */
export function median(values: readonly number[]): number {
  const sorted = ascending(values);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  if (upper === undefined) throw new TypeError('the median of nothing');
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

/** Ascending. */
export function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

/** The smallest of ascending values that at least `share` (0..1) of them do not exceed. @throws TypeError for an empty list */
export function quantile(sorted: readonly number[], share: number): number {
  const found = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  if (found === undefined) throw new TypeError('a quantile of nothing');
  return found;
}

/** Rounds to `digits` decimals, for output. */
export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
