/** A corner of the simplex and its cost. */
interface Corner {
  readonly point: readonly number[];
  readonly cost: number;
}

const FIRST_STEP = 0.2;
const TOLERANCE = 1e-6;

/**
 * The point of the unit cube with the least cost that the downhill simplex finds (Nelder and Mead 1965: reflect 1,
 * expand 2, contract 1/2, shrink 1/2); points outside are moved to its surface. Pure and deterministic.
 */
export function nelderMead(
  costOf: (point: readonly number[]) => number,
  start: readonly number[],
  maxEvaluations: number,
): readonly number[] {
  let evaluations = 0;
  const corner = (point: readonly number[]): Corner => {
    evaluations += 1;
    const inside = point.map((x) => Math.min(1, Math.max(0, x)));
    const cost = costOf(inside);
    return { point: inside, cost: Number.isFinite(cost) ? cost : Number.MAX_VALUE };
  };
  let simplex = [start, ...start.map((_, i) => start.map((x, k) => (k === i ? x + FIRST_STEP : x)))].map(
    corner,
  );
  while (evaluations < maxEvaluations) {
    simplex.sort((a, b) => a.cost - b.cost);
    const [best, worst, second] = [simplex[0], simplex.at(-1), simplex.at(-2)] as [Corner, Corner, Corner];
    if (worst.cost - best.cost <= TOLERANCE * Math.abs(best.cost)) break;
    const centre = start.map(
      (_, k) => simplex.slice(0, -1).reduce((sum, { point }) => sum + (point[k] as number), 0) / start.length,
    );
    const along = (factor: number) =>
      corner(centre.map((c, k) => c + factor * ((worst.point[k] as number) - c)));
    const reflected = along(-1);
    let replacement: Corner | undefined = reflected;
    if (reflected.cost < best.cost) {
      const expanded = along(-2);
      if (expanded.cost < reflected.cost) replacement = expanded;
    } else if (reflected.cost >= second.cost) {
      const contracted = along(reflected.cost < worst.cost ? -0.5 : 0.5);
      replacement = contracted.cost < Math.min(reflected.cost, worst.cost) ? contracted : undefined;
    }
    if (replacement !== undefined) simplex[simplex.length - 1] = replacement;
    else {
      simplex = [
        best,
        ...simplex
          .slice(1)
          .map(({ point }) => corner(point.map((x, k) => (x + (best.point[k] as number)) / 2))),
      ];
    }
  }
  return simplex.reduce((best, candidate) => (candidate.cost < best.cost ? candidate : best)).point;
}
