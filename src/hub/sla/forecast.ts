/** Pure: chooses a method for a series of hourly use, forecasts it, and says how well it would have done before. */
import {
  type Filtered,
  filter,
  fitSmoothing,
  project,
  type Series,
  type Shape,
  type Smoothing,
  type State,
  spread,
  startOf,
} from './holt-winters.ts';

export type Method = 'holt_winters_daily' | 'holt_winters_weekly' | 'holt' | 'mean' | 'none';

export interface ForecastPoint {
  readonly expected: number;
  readonly lower80: number;
  readonly upper80: number;
  readonly lower95: number;
  readonly upper95: number;
}

export interface Backtest {
  /** Mean absolute error, and that of the seasonal naive forecast (the last known season again) of the same hours. */
  readonly mae: number;
  readonly naiveMae: number;
  /** Share of the hours after the later half of the origins inside the interval that is calibrated on the earlier half. */
  readonly coverage95: number;
  readonly points: number;
}

export interface Forecast {
  readonly method: Method;
  /** Hours without a value. */
  readonly missingHours: number;
  readonly backtest: Backtest | null;
  readonly points: readonly ForecastPoint[];
}

const DAY = 24;
const WEEK = 168;

/** Seasons that a history must hold before a season is believed. */
const MIN_SEASONS = 3;
const MIN_HOLT_HOURS = 12;
const MAX_START_PERIODS = 4;
const DAMPINGS = [1, 0.98];

/** What lies before a longer gap is another time. */
const MAX_GAP = WEEK;

/**
 * Forecasts are tried from the last third of the history, every 7 hours so that each hour of the day has its turn; the smoothing is
 * fitted anew at the start of each ninth, to what was known then.
 */
const HELD_OUT_SHARE = 1 / 3;
const FITS = 3;
const ORIGIN_STEP = 7;

const Z80 = 1.2816;
const Z95 = 1.96;

interface Candidate {
  readonly method: Method;
  readonly shape: Shape;
}

interface Trial {
  readonly candidate: Candidate;
  readonly backtest: Backtest | null;
  /** What the analytic interval must be stretched by, from the backtest. */
  readonly scale80: number;
  readonly scale95: number;
}

/**
 * Forecasts the hours after a history of hourly means, null where nothing is known. The method with the least error in
 * its backtest wins and is fitted to all that is known; its intervals are stretched so that they hold as often as they promise
 * in the backtest.
 */
export function forecastHours(history: Series, hours: number): Forecast {
  const series = sinceLongGap(history);
  const known = series.filter((value) => value !== null);
  const missingHours = series.length - known.length;
  if (known.length === 0) return { method: 'none', missingHours, backtest: null, points: [] };
  if (known.length < MIN_HOLT_HOURS) {
    return { method: 'mean', missingHours, backtest: null, points: meanForecast(known, hours) };
  }
  const trials = candidatesFor(known.length).map((candidate) => tryOut(series, candidate, hours));
  const maeOf = ({ backtest }: Trial) => backtest?.mae ?? Number.POSITIVE_INFINITY;
  const best = trials.reduce((winner, trial) => (maeOf(trial) < maeOf(winner) ? trial : winner));
  return {
    method: best.candidate.method,
    missingHours,
    backtest: best.backtest,
    points: pointsOf(series, best, hours),
  };
}

/** From the first value that is known, or the first after a gap that is too long; nothing when such a gap goes on. */
function sinceLongGap(history: Series): Series {
  let from = history.length;
  let last = Number.NEGATIVE_INFINITY;
  for (const [t, value] of history.entries()) {
    if (value === null) continue;
    if (t - last - 1 > MAX_GAP) from = t;
    last = t;
  }
  return history.length - 1 - last > MAX_GAP ? [] : history.slice(from);
}

/** Fills what is missing with the value a season before, else a season later, else with the last that is known. */
export function fillGaps(series: Series, period: number): number[] {
  const filled: number[] = [];
  for (const [t, value] of series.entries()) {
    filled.push(value ?? filled[t - period] ?? series[t + period] ?? filled.at(-1) ?? 0);
  }
  return filled;
}

function candidatesFor(length: number): Candidate[] {
  const trained = Math.ceil(length * (1 - HELD_OUT_SHARE));
  const seasons: [Method, number][] = [
    ['holt_winters_daily', DAY],
    ['holt_winters_weekly', WEEK],
  ];
  const seasonal = seasons.filter(
    ([, period]) => trained >= (MIN_SEASONS - 1) * period && length >= MIN_SEASONS * period,
  );
  const chosen: [Method, number][] = seasonal.length > 0 ? seasonal : [['holt', 1]];
  return chosen.flatMap(([method, period]) => {
    // More seasons average the noise out of the start values, fewer keep clear of a later shift of the level.
    const most = Math.min(MAX_START_PERIODS, Math.floor(trained / period));
    return [...new Set([Math.min(2, most), most])].flatMap((startPeriods) =>
      DAMPINGS.map(
        (damping): Candidate => ({
          method,
          shape: { period, seasonal: 'additive', damping, startPeriods },
        }),
      ),
    );
  });
}

/** Forecasts from one hour after the other of the last third, with what was known then. */
function tryOut(series: Series, candidate: Candidate, hours: number): Trial {
  const heldOut = series.length * HELD_OUT_SHARE;
  const originOf = (share: number) => Math.ceil(series.length - heldOut * (1 - share));
  const errors = Array.from({ length: FITS }, (_, n) =>
    errorsBetween(series, candidate.shape, hours, originOf(n / FITS), originOf((n + 1) / FITS)),
  ).flat();
  return {
    candidate,
    scale80: stretch(errors, 0.8, Z80),
    scale95: stretch(errors, 0.95, Z95),
    backtest: backtestOf(errors, originOf(1 / 2)),
  };
}

/** One hour that was forecast in the backtest. */
interface ForecastError {
  /** Absolute, as that of the seasonal naive forecast. */
  readonly error: number;
  readonly naive: number;
  /** In units of what the analytic interval takes for one standard deviation. */
  readonly z: number;
  readonly origin: number;
}

/** Fits to what comes before `from`, and forecasts from there on up to `to`. */
function errorsBetween(
  series: Series,
  shape: Shape,
  hours: number,
  from: number,
  to: number,
): ForecastError[] {
  const fit = fitTo(series.slice(0, from), shape, hours);
  const errors: ForecastError[] = [];
  for (let origin = from; origin < to; origin += ORIGIN_STEP) {
    const known = series.slice(0, origin);
    const naive = fillGaps(known.slice(-shape.period), shape.period);
    const { state } = filter(known, shape, fit.smoothing, fit.start);
    const actual = series.slice(origin, origin + hours);
    for (const [h, expected] of project(state, shape, actual.length).entries()) {
      const value = actual[h] as number | null;
      if (value === null) continue;
      const error = Math.abs(value - Math.max(0, expected));
      const z = error / (fit.sigmas[h] as number);
      errors.push({ error, naive: Math.abs(value - (naive[h % shape.period] as number)), z, origin });
    }
  }
  return errors;
}

/** Null when nothing is known of the hours that were forecast. */
function backtestOf(errors: readonly ForecastError[], half: number): Backtest | null {
  if (errors.length === 0) return null;
  const earlier = errors.filter(({ origin }) => origin < half);
  const later = errors.filter(({ origin }) => origin >= half);
  const [calibrating, held] = earlier.length > 0 && later.length > 0 ? [earlier, later] : [errors, errors];
  const bound = quantile(calibrating, 0.95);
  return {
    mae: mean(errors.map(({ error }) => error)),
    naiveMae: mean(errors.map(({ naive }) => naive)),
    coverage95: held.filter(({ z }) => z <= bound).length / held.length,
    points: errors.length,
  };
}

interface Fit {
  readonly smoothing: Smoothing;
  readonly start: State;
  /** Standard deviation of the forecast 1, 2, ... hours ahead. */
  readonly sigmas: readonly number[];
}

function fitTo(series: Series, shape: Shape, hours: number): Fit {
  const start = startOf(fillGaps(series, shape.period), shape);
  const smoothing = fitSmoothing(series, shape, start);
  const sigma = deviation(filter(series, shape, smoothing, start));
  return { smoothing, start, sigmas: spread(smoothing, shape, hours).map((width) => sigma * width) };
}

function pointsOf(series: Series, { candidate, scale80, scale95 }: Trial, hours: number): ForecastPoint[] {
  const { shape } = candidate;
  const { smoothing, start, sigmas } = fitTo(series, shape, hours);
  const { state } = filter(series, shape, smoothing, start);
  return project(state, shape, hours).map((expected, h) => {
    const sigma = sigmas[h] as number;
    return pointAround(expected, Z80 * scale80 * sigma, Z95 * scale95 * sigma);
  });
}

/** Too short for a trend: the mean, with at least the spread of a Poisson count. */
function meanForecast(series: readonly number[], hours: number): ForecastPoint[] {
  const expected = mean(series);
  const variance = mean(series.map((value) => (value - expected) ** 2));
  const sigma = Math.sqrt(Math.max(variance, expected) * (1 + 1 / series.length));
  return Array.from({ length: hours }, () => pointAround(expected, Z80 * sigma, Z95 * sigma));
}

/** Use is never below nothing. */
function pointAround(expected: number, half80: number, half95: number): ForecastPoint {
  const from = (value: number) => Math.max(0, value);
  const wide = Math.max(half80, half95);
  return {
    expected: from(expected),
    lower80: from(expected - half80),
    upper80: from(expected + half80),
    lower95: from(expected - wide),
    upper95: from(expected + wide),
  };
}

/** Never 0: a series without any noise so far is no promise. */
function deviation({ sse, errors }: Filtered): number {
  return Math.max(Math.sqrt(sse / Math.max(1, errors.length)), 1e-6);
}

/** What the interval that is to hold a share of the errors must be stretched by to do so; 1 without any. */
function stretch(errors: readonly ForecastError[], share: number, z: number): number {
  return errors.length === 0 ? 1 : quantile(errors, share) / z;
}

function quantile(errors: readonly ForecastError[], share: number): number {
  const sorted = errors.map(({ z }) => z).sort((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1] as number;
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}
