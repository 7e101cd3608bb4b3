import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filter, fitSmoothing, project, type Shape, startOf } from '../../src/hub/sla/holt-winters.ts';

/** Monthly airline passengers 1949-1960 in thousands (Box and Jenkins, series G): R's dataset AirPassengers. */
const AIR_PASSENGERS = [
  112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118, 115, 126, 141, 135, 125, 149, 170, 170, 158,
  133, 114, 140, 145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166, 171, 180, 193, 181, 183, 218,
  230, 242, 209, 191, 172, 194, 196, 196, 236, 235, 229, 243, 264, 272, 237, 211, 180, 201, 204, 188, 235,
  227, 234, 264, 302, 293, 259, 229, 203, 229, 242, 233, 267, 269, 270, 315, 364, 347, 312, 274, 237, 278,
  284, 277, 317, 313, 318, 374, 413, 405, 355, 306, 271, 306, 315, 301, 356, 348, 355, 422, 465, 467, 404,
  347, 305, 336, 340, 318, 362, 348, 363, 435, 491, 505, 404, 359, 310, 337, 360, 342, 406, 396, 420, 472,
  548, 559, 463, 407, 362, 405, 417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432,
];

const shapeOf = (seasonal: Shape['seasonal']): Shape => ({
  period: 12,
  seasonal,
  damping: 1,
  startPeriods: 2,
});

/** What R prints for HoltWinters(AirPassengers, seasonal = ...), package stats. */
const PUBLISHED = {
  multiplicative: {
    smoothing: { alpha: 0.2755925, beta: 0.03269295, gamma: 0.8707292 },
    level: 469.3232206,
    trend: 3.0215391,
    season: [
      0.9464611, 0.8829239, 0.9717369, 1.0304825, 1.0476884, 1.1805272, 1.3590778, 1.3331706, 1.1083381,
      0.9868813, 0.8361333, 0.9209877,
    ],
  },
  additive: {
    smoothing: { alpha: 0.2479595, beta: 0.03453373, gamma: 1 },
    level: 477.827781,
    trend: 3.127627,
    season: [
      -27.457685, -54.692464, -20.174608, 12.91912, 18.873607, 75.294426, 152.888368, 134.613464, 33.778349,
      -18.37906, -87.772408, -45.827781,
    ],
  },
} as const;

for (const seasonal of ['multiplicative', 'additive'] as const) {
  const published = PUBLISHED[seasonal];
  const shape = shapeOf(seasonal);
  const start = startOf(AIR_PASSENGERS, shape);

  test(`${seasonal}: with the smoothing that R published, the coefficients are those of R`, () => {
    const { state } = filter(AIR_PASSENGERS, shape, published.smoothing, start);
    const close = (actual: number, expected: number) =>
      assert.ok(Math.abs(actual - expected) <= 1e-5 * Math.abs(expected), `${actual} is not ${expected}`);
    close(state.level, published.level);
    close(state.trend, published.trend);
    for (const [i, expected] of published.season.entries()) close(state.season[i] ?? Number.NaN, expected);
    const ahead = project(state, shape, 12);
    const first = published.level + published.trend;
    close(
      ahead[0] ?? Number.NaN,
      seasonal === 'additive' ? first + published.season[0] : first * published.season[0],
    );
  });

  test(`${seasonal}: the fit is at least as good as that of R`, () => {
    const ours = filter(AIR_PASSENGERS, shape, fitSmoothing(AIR_PASSENGERS, shape, start), start).sse;
    const theirs = filter(AIR_PASSENGERS, shape, published.smoothing, start).sse;
    assert.ok(ours <= theirs * 1.0001, `${ours} against ${theirs}`);
  });
}
