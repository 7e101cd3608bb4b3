import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fillGaps, forecastHours } from '../../src/hub/sla/forecast.ts';
import { Random } from '../support/random.ts';

const HOURS = 24 * 7 * 5;
const AHEAD = 72;
const SEEDS = 24;

const daily = (t: number) => 40 * Math.sin((2 * Math.PI * t) / 24) + 12 * Math.cos((4 * Math.PI * t) / 24);
const weekend = (t: number) => (Math.floor(t / 24) % 7 >= 5 ? -60 : 0);

interface Generated {
  readonly name: string;
  readonly season: number;
  readonly value: (t: number) => number;
  readonly gaps?: boolean;
}

const GENERATED: readonly Generated[] = [
  { name: 'a daily season', season: 24, value: (t) => 200 + daily(t) },
  { name: 'a weekly season', season: 168, value: (t) => 240 + daily(t) + weekend(t) },
  { name: 'a daily season with a trend', season: 24, value: (t) => 150 + 0.15 * t + daily(t) },
  { name: 'a weekly season with a trend', season: 168, value: (t) => 150 + 0.15 * t + daily(t) + weekend(t) },
  { name: 'a daily season with gaps', season: 24, value: (t) => 200 + daily(t), gaps: true },
  { name: 'a weekly season with gaps', season: 168, value: (t) => 240 + daily(t) + weekend(t), gaps: true },
  { name: 'a daily season with a level shift', season: 24, value: (t) => (t > 450 ? 280 : 180) + daily(t) },
  {
    name: 'a weekly season with a level shift',
    season: 168,
    value: (t) => (t > 450 ? 280 : 180) + daily(t) + weekend(t),
  },
];

for (const { name, season, value, gaps } of GENERATED) {
  test(`${name}: better than the seasonal naive forecast, and 95% means 90 to 98%`, () => {
    let [error, naive, inside, points] = [0, 0, 0, 0];
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = new Random(seed * 7919);
      const whole = Array.from({ length: HOURS + AHEAD }, (_, t) => value(t) + 8 * normal(random));
      const history = whole.slice(0, HOURS).map((y) => (gaps === true && random.chance(0.05) ? null : y));
      const known = fillGaps(history);
      const forecast = forecastHours(history, AHEAD);
      for (const [h, point] of forecast.points.entries()) {
        const actual = whole[HOURS + h] as number;
        error += Math.abs(actual - point.expected);
        naive += Math.abs(actual - (known[HOURS - season + (h % season)] as number));
        if (actual >= point.lower95 && actual <= point.upper95) inside += 1;
        points += 1;
      }
    }
    const coverage = inside / points;
    assert.ok(error < naive, `mean error ${error / points}, naive ${naive / points}`);
    assert.ok(coverage >= 0.9 && coverage <= 0.98, `${coverage} of ${points} points are inside`);
  });
}

test('a short history takes a simpler method and says which', () => {
  assert.deepEqual(forecastHours([], 3), { method: 'none', filledHours: 0, backtest: null, points: [] });
  assert.deepEqual(forecastHours([null, null], 3).method, 'none');
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

test('gaps take the value of the day before', () => {
  const history = Array.from({ length: 48 }, (_, t) => (t === 30 ? null : t));
  assert.equal(fillGaps(history)[30], 6);
  assert.deepEqual(fillGaps([null, 3, null]), [0, 3, 3]);
});

function ramp(hours: number): number[] {
  return Array.from({ length: hours }, (_, t) => 10 + t / 10 + daily(t) / 10);
}

/** Box and Muller 1958. */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
}
