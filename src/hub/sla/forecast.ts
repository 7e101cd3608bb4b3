/** Pure: chooses a method for a series of hourly use, forecasts it, and says how well it would have done before. */
import {
  type Filtered,
  filter,
  fitSmoothing,
  project,
  type Shape,
  type Smoothing,
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
  /** Share of the held-out hours inside the interval, which was calibrated on others. */
  readonly coverage95: number;
  readonly points: number;
}

export interface Forecast {
  readonly method: Method;
  /** Hours that had no value. */
  readonly filledHours: number;
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

/** Forecasts are tried from the last third of the history, every 7 hours so that each hour of the day has its turn. */
const HELD_OUT_SHARE = 1 / 3;
const ORIGIN_STEP = 7;

const Z80 = 1.2816;
const Z95 = 1.96;

interface Candidate {
  readonly method: Method;
  readonly shape: Shape;
}

interface Trial {
  readonly candidate: Candidate;
  readonly smoothing: Smoothing;
  readonly backtest: Backtest;
  /** What the analytic interval must be stretched by, from the backtest. */
  readonly scale80: number;
  readonly scale95: number;
}

/**
 * Forecasts the hours after a history of hourly means, null where nothing is known. The method with the least error in
 * its backtest wins; its intervals are stretched so that they hold as often as they promise there.
 */
export function forecastHours(history: readonly (number | null)[], hours: number): Forecast {
  const first = history.findIndex((value) => value !== null);
  const series = fillGaps(first < 0 ? [] : history.slice(first));
  const filledHours = series.length - history.filter((value) => value !== null).length;
  if (series.length === 0) return { method: 'none', filledHours: 0, backtest: null, points: [] };
  if (series.length < MIN_HOLT_HOURS) {
    return { method: 'mean', filledHours, backtest: null, points: meanForecast(series, hours) };
  }
  const trials = candidatesFor(series.length).map((candidate) => tryOut(series, candidate, hours));
  const best = trials.reduce((winner, trial) => (trial.backtest.mae < winner.backtest.mae ? trial : winner));
  return {
    method: best.candidate.method,
    filledHours,
    backtest: best.backtest,
    points: pointsOf(series, best, hours),
  };
}

/** Fills what is missing with the value of the day before, else with the last that is known. */
export function fillGaps(history: readonly (number | null)[]): number[] {
  const filled: number[] = [];
  for (const [t, value] of history.entries()) filled.push(value ?? filled[t - DAY] ?? filled.at(-1) ?? 0);
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

/** Fits on the first two thirds, then forecasts from one hour after the other of the rest, with what was known then. */
function tryOut(series: readonly number[], candidate: Candidate, hours: number): Trial {
  const { shape } = candidate;
  const trained = series.slice(0, Math.ceil(series.length * (1 - HELD_OUT_SHARE)));
  const start = startOf(trained, shape);
  const smoothing = fitSmoothing(trained, shape, start);
  const widths = spread(smoothing, shape, hours);
  const sigma = deviation(filter(trained, shape, smoothing, start));
  const errors: { error: number; naive: number; z: number; origin: number }[] = [];
  for (let origin = trained.length, n = 0; origin < series.length; origin += ORIGIN_STEP, n++) {
    const known = series.slice(0, origin);
    const { state } = filter(known, shape, smoothing, start);
    const actual = series.slice(origin, origin + hours);
    for (const [h, expected] of project(state, shape, actual.length).entries()) {
      const value = actual[h] as number;
      const error = value - Math.max(0, expected);
      const naive = value - (known[known.length - shape.period + (h % shape.period)] as number);
      errors.push({ error, naive, z: Math.abs(error) / (sigma * (widths[h] as number)), origin: n });
    }
  }
  const even = errors.filter(({ origin }) => origin % 2 === 0);
  const odd = errors.filter(({ origin }) => origin % 2 === 1);
  const calibrated = quantile(even, 0.95);
  const held = odd.length > 0 ? odd : even;
  return {
    candidate,
    smoothing,
    scale80: quantile(errors, 0.8) / Z80,
    scale95: quantile(errors, 0.95) / Z95,
    backtest: {
      mae: mean(errors.map(({ error }) => Math.abs(error))),
      naiveMae: mean(errors.map(({ naive }) => Math.abs(naive))),
      coverage95: held.filter(({ z }) => z <= calibrated).length / held.length,
      points: errors.length,
    },
  };
}

function pointsOf(series: readonly number[], trial: Trial, hours: number): ForecastPoint[] {
  const { shape } = trial.candidate;
  const trained = series.slice(0, Math.ceil(series.length * (1 - HELD_OUT_SHARE)));
  const filtered = filter(series, shape, trial.smoothing, startOf(trained, shape));
  const sigma = deviation(filter(trained, shape, trial.smoothing, startOf(trained, shape)));
  const widths = spread(trial.smoothing, shape, hours);
  return project(filtered.state, shape, hours).map((expected, h) =>
    pointAround(
      expected,
      Z80 * trial.scale80 * sigma * (widths[h] as number),
      Z95 * trial.scale95 * sigma * (widths[h] as number),
    ),
  );
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

function quantile(errors: readonly { z: number }[], share: number): number {
  const sorted = errors.map(({ z }) => z).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 1;
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}
