/**
 * Exponential smoothing with trend and season (Holt 1957, Winters 1960), pure. Start values, recursions and the error
 * that is minimised are those of R's stats::HoltWinters, so that its published fits check this one; beside them the
 * trend may be damped (Gardner and McKenzie 1985). Intervals: Hyndman, Koehler, Ord and Snyder 2008, section 6.1.
 */
import { nelderMead } from './nelder-mead.ts';

export interface Smoothing {
  readonly alpha: number;
  readonly beta: number;
  /** Of the season, on what the new level leaves over. */
  readonly gamma: number;
}

export interface Shape {
  /** Steps of a season; 1 for none. */
  readonly period: number;
  readonly seasonal: 'additive' | 'multiplicative';
  /** 1: the trend goes on for ever; less: each step of the forecast takes that share of the one before. */
  readonly damping: number;
  /** Whole seasons from which the start values are taken; R takes 2. */
  readonly startPeriods: number;
}

/** Where a series stands. */
export interface State {
  readonly level: number;
  readonly trend: number;
  /** Of the next `period` steps, in their order. */
  readonly season: readonly number[];
}

export interface Filtered {
  readonly state: State;
  /** One-step errors, from the second season on. */
  readonly errors: readonly number[];
  readonly sse: number;
}

const FIRST_GUESS = [0.3, 0.1, 0.1] as const;
const MAX_EVALUATIONS = 150;

/** What is known of a series, step by step; null where nothing is. */
export type Series = readonly (number | null)[];

/**
 * Runs over the series with given smoothing, from the second season to the end. A step of which nothing is known passes as it was
 * expected: it moves level and season by nothing, and is no error.
 */
export function filter(series: Series, shape: Shape, smoothing: Smoothing, start: State): Filtered {
  const { period, damping } = shape;
  const additive = shape.seasonal === 'additive';
  const { alpha, beta, gamma } = smoothing;
  const season = [...start.season];
  const errors: number[] = [];
  let { level, trend } = start;
  let sse = 0;
  for (let t = period; t < series.length; t++) {
    const value = series[t] as number | null;
    const at = (t - period) % period;
    const seasonal = season[at] as number;
    const ahead = level + damping * trend;
    if (value === null) {
      level = ahead;
      trend *= damping;
      continue;
    }
    const error = value - (additive ? ahead + seasonal : ahead * seasonal);
    errors.push(error);
    sse += error * error;
    const before = level;
    level = alpha * (additive ? value - seasonal : value / seasonal) + (1 - alpha) * ahead;
    trend = beta * (level - before) + (1 - beta) * damping * trend;
    season[at] = gamma * (additive ? value - level : value / level) + (1 - gamma) * seasonal;
  }
  const next = (series.length - period) % period;
  return { state: { level, trend, season: [...season.slice(next), ...season.slice(0, next)] }, errors, sse };
}

/**
 * Start values from the first seasons: the season is what a centred moving average leaves over, level and trend are the
 * line through that average. Needs `startPeriods` whole seasons.
 */
export function startOf(series: readonly number[], shape: Shape): State {
  const { period, startPeriods } = shape;
  if (period === 1) return { level: series[0] ?? 0, trend: 0, season: [0] };
  const head = series.slice(0, period * startPeriods);
  const average = centredAverage(head, period);
  const additive = shape.seasonal === 'additive';
  const sums = Array.from({ length: period }, () => ({ total: 0, count: 0 }));
  for (const [t, mean] of average) {
    const phase = sums[t % period] as { total: number; count: number };
    phase.total += additive ? (head[t] as number) - mean : (head[t] as number) / mean;
    phase.count += 1;
  }
  const raw = sums.map(({ total, count }) => total / count);
  const centre = raw.reduce((total, value) => total + value, 0) / period;
  const season = raw.map((value) => (additive ? value - centre : value / centre));
  const line = lineThrough(average.map(([, mean]) => mean));
  return { level: line.intercept, trend: line.slope, season };
}

/** The smoothing with the least squared one-step error. */
export function fitSmoothing(series: Series, shape: Shape, start: State): Smoothing {
  const free = shape.period === 1 ? 2 : 3;
  const smoothingOf = ([alpha = 0, beta = 0, gamma = 0]: readonly number[]) => ({ alpha, beta, gamma });
  const best = nelderMead(
    (point) => filter(series, shape, smoothingOf(point), start).sse,
    FIRST_GUESS.slice(0, free),
    MAX_EVALUATIONS,
  );
  return smoothingOf(best);
}

/** The next `steps` values. */
export function project(state: State, shape: Shape, steps: number): number[] {
  const values: number[] = [];
  let reach = 0;
  let share = 1;
  for (let h = 0; h < steps; h++) {
    share *= shape.damping;
    reach += share;
    const seasonal = state.season[h % shape.period] as number;
    const base = state.level + reach * state.trend;
    values.push(shape.seasonal === 'additive' ? base + seasonal : base * seasonal);
  }
  return values;
}

/**
 * Standard deviation of the forecast 1..`steps` ahead, in units of the one-step error's, for additive seasons: what each
 * error on the way adds to level, trend and season.
 */
export function spread({ alpha, beta, gamma }: Smoothing, shape: Shape, steps: number): number[] {
  const { period, damping } = shape;
  const result: number[] = [];
  let variance = 1;
  let reach = 0;
  let share = 1;
  for (let h = 1; h <= steps; h++) {
    result.push(Math.sqrt(variance));
    share *= damping;
    reach += share;
    const seasonal = period > 1 && h % period === 0 ? gamma * (1 - alpha) : 0;
    variance += (alpha * (1 + beta * reach) + seasonal) ** 2;
  }
  return result;
}

/** Centred moving average over a season; half weights at both ends when the season is even. */
function centredAverage(series: readonly number[], period: number): [t: number, mean: number][] {
  const half = Math.floor(period / 2);
  const result: [number, number][] = [];
  for (let t = half; t < series.length - half; t++) {
    let sum = 0;
    for (let k = -half; k <= half; k++) {
      const weight = period % 2 === 0 && Math.abs(k) === half ? 0.5 : 1;
      sum += weight * (series[t + k] as number);
    }
    result.push([t, sum / period]);
  }
  return result;
}

/** Least squares through (1, y1), (2, y2), ... */
function lineThrough(values: readonly number[]): { intercept: number; slope: number } {
  const n = values.length;
  const meanX = (n + 1) / 2;
  const meanY = values.reduce((total, value) => total + value, 0) / n;
  let xy = 0;
  let xx = 0;
  for (const [i, value] of values.entries()) {
    xy += (i + 1 - meanX) * (value - meanY);
    xx += (i + 1 - meanX) ** 2;
  }
  const slope = xx === 0 ? 0 : xy / xx;
  return { intercept: meanY - slope * meanX, slope };
}
