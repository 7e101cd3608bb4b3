import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fillGaps, forecastHours } from '../../src/hub/sla/forecast.ts';
import { Random } from '../support/random.ts';

const HOURS = 24 * 7 * 5;
const AHEAD = 24 * 7;
const SEEDS = 10;

const daily = (t: number) => 40 * Math.sin((2 * Math.PI * t) / 24) + 12 * Math.cos((4 * Math.PI * t) / 24);
const weekend = (t: number) => (Math.floor(t / 24) % 7 >= 5 ? -60 : 0);

interface Generated {
  readonly name: string;
  readonly season: number;
  readonly value: (t: number) => number;
  /** Of all hours, at random. */
  readonly gaps?: number;
  /** Days that are missing as a whole, the last not included. */
  readonly outage?: readonly [number, number];
}

const GENERATED: readonly Generated[] = [
  { name: 'a daily season', season: 24, value: (t) => 200 + daily(t) },
  { name: 'a weekly season', season: 168, value: (t) => 240 + daily(t) + weekend(t) },
  { name: 'a daily season with a trend', season: 24, value: (t) => 150 + 0.15 * t + daily(t) },
  { name: 'a weekly season with a trend', season: 168, value: (t) => 150 + 0.15 * t + daily(t) + weekend(t) },
  { name: 'a daily season with gaps', season: 24, value: (t) => 200 + daily(t), gaps: 0.05 },
  { name: 'a weekly season with gaps', season: 168, value: (t) => 240 + daily(t) + weekend(t), gaps: 0.05 },
  { name: 'a daily season with a level shift', season: 24, value: (t) => (t > 450 ? 280 : 180) + daily(t) },
  {
    name: 'a weekly season with a level shift',
    season: 168,
    value: (t) => (t > 450 ? 280 : 180) + daily(t) + weekend(t),
  },
  {
    name: 'a weekly season without its last Saturday',
    season: 168,
    value: (t) => 240 + daily(t) + weekend(t),
    outage: [33, 34],
  },
  {
    name: 'a weekly season without a Friday and a weekend',
    season: 168,
    value: (t) => 240 + daily(t) + weekend(t),
    outage: [25, 28],
  },
  {
    name: 'a daily season with a trend and five days missing',
    season: 24,
    value: (t) => 100 + 0.3 * t + daily(t),
    outage: [25, 30],
  },
];

/** A series with noise, and what a hub would have seen of it. */
function generate({ value, gaps = 0, outage: [from, to] = [0, 0] }: Generated, seed: number) {
  const random = new Random(seed * 7919);
  const whole = Array.from({ length: HOURS + AHEAD }, (_, t) => value(t) + 8 * normal(random));
  const isMissing = (t: number) => random.chance(gaps) || (t >= from * 24 && t < to * 24);
  return { whole, history: whole.slice(0, HOURS).map((y, t) => (isMissing(t) ? null : y)) };
}

/** Mean errors of the forecast and of the seasonal naive one, and the share of the points inside the 95% interval. */
function tryOut(generated: Generated) {
  let [error, naive, inside, points] = [0, 0, 0, 0];
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { whole, history } = generate(generated, seed);
    const { season } = generated;
    const known = fillGaps(history, season);
    const forecast = forecastHours(history, AHEAD);
    for (const [h, point] of forecast.points.entries()) {
      const actual = whole[HOURS + h] as number;
      error += Math.abs(actual - point.expected);
      naive += Math.abs(actual - (known[HOURS - season + (h % season)] as number));
      if (actual >= point.lower95 && actual <= point.upper95) inside += 1;
      points += 1;
    }
  }
  return { error: error / points, naive: naive / points, coverage: inside / points };
}

for (const generated of GENERATED) {
  test(`${generated.name}: better than the seasonal naive forecast, and 95% means 90 to 98%`, () => {
    const { error, naive, coverage } = tryOut(generated);
    assert.ok(error < naive, `mean error ${error}, naive ${naive}`);
    assert.ok(coverage >= 0.9 && coverage <= 0.98, `${coverage} of the points are inside`);
  });
}

test('after a shift of the level in the last days the forecast is there, its interval wide: there may be another', () => {
  const value = (t: number) => (t > 700 ? 280 : 180) + daily(t) + weekend(t);
  const { error, naive, coverage } = tryOut({ name: 'late', season: 168, value });
  assert.ok(error < naive / 2, `mean error ${error}, naive ${naive}`);
  assert.ok(coverage >= 0.9, `${coverage} of the points are inside`);
});

test('a short history takes a simpler method and says which', () => {
  assert.deepEqual(forecastHours([], 3), { method: 'none', missingHours: 0, backtest: null, points: [] });
  assert.deepEqual(forecastHours([null, null], 3).method, 'none');
  assert.equal(forecastHours([9, 8, ...new Array(169).fill(null)], 3).method, 'none', 'too long ago');
  assert.equal(forecastHours([9, ...new Array(169).fill(null), 4, 6, 5], 2).points[0]?.expected, 5);
  const few = forecastHours([4, 6, 5], 2);
  assert.equal(few.method, 'mean');
  assert.equal(few.points[0]?.expected, 5);
  assert.ok((few.points[0]?.upper95 ?? 0) > 9);
  assert.equal(forecastHours(ramp(30), 5).method, 'holt');
  assert.match(forecastHours(ramp(100), 5).method, /^holt_winters_daily$/);
});

test('use is never forecast below nothing, and a flat line stays flat', () => {
  const falling = forecastHours(
    Array.from({ length: 48 }, (_, t) => 48 - t),
    48,
  );
  assert.ok(falling.points.every((point) => point.lower95 >= 0 && point.expected >= 0));
  const flat = forecastHours(new Array(200).fill(7), 24);
  for (const point of flat.points) assert.ok(Math.abs(point.expected - 7) < 1e-3 && point.upper95 < 7.1);
});

test('what is missing is filled from a season before or after, and nothing is scored by it', () => {
  assert.deepEqual(fillGaps([1, 2, null, 4, null, null], 2), [1, 2, 1, 4, 1, 4]);
  assert.deepEqual(fillGaps([null, 3, null, 5], 2), [0, 3, 0, 5]);
  const half = ramp(300).map((value, t) => (t < 210 ? value : null));
  const { backtest, points, missingHours } = forecastHours(half, 24);
  assert.equal(missingHours, 90);
  assert.ok(points.every(({ lower95, upper95 }) => lower95 < upper95));
  // Origins from hour 200 on, of which ten hours are known, the first seven of them twice.
  assert.equal(backtest?.points, 10 + 3);
  assert.equal(forecastHours([...ramp(200), ...new Array(100).fill(null)], 24).backtest, null);
});

function ramp(hours: number): number[] {
  return Array.from({ length: hours }, (_, t) => 10 + t / 10 + daily(t) / 10);
}

/** Box and Muller 1958. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
}
