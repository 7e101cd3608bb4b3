import { writeFile } from 'node:fs/promises';
import type { CapacityForecast, CapacityRecommendations } from '../../sdk/types.ts';
import { defineCommand } from '../command.ts';
import { HUB_OPTIONS, openClient } from '../hub-access.ts';
import { wholeOption } from '../numbers.ts';
import { svgPlot, textPlot } from '../plot.ts';

const MAX_HOURS = 720;
/** Columns of the plot, where the terminal has them beside the scale. */
const PLOT_WIDTH = { min: 10, max: 84 };
const SCALE_WIDTH = 12;
const PLOT_HEIGHT = 12;

export const capacityForecast = defineCommand({
  name: 'capacity forecast',
  summary: 'Draws how many places will be in use, with the 95% interval, and says what to do about it.',
  options: {
    ...HUB_OPTIONS,
    hours: { type: 'string', value: 'n', help: 'how far ahead (CAPACITY_FORECAST_HOURS)' },
    svg: { type: 'string', value: 'file', help: 'write the picture there, as SVG' },
    json: { type: 'boolean', help: 'print JSON' },
  },
  notes: 'Needs COORDINATOR_SHARED_SECRET or ADMIN_API_KEY in the environment.',
  async run({ values }, terminal) {
    const client = openClient(values.url, terminal);
    const hours =
      values.hours === undefined ? undefined : wholeOption('hours', values.hours, { min: 1, max: MAX_HOURS });
    const [forecast, advice] = await Promise.all([
      client.capacityForecast(hours),
      client.capacityRecommendations(),
    ]);
    if (values.svg !== undefined) {
      await writeFile(values.svg, svgPlot(bandsOf(forecast), titleOf(forecast)));
      terminal.note(`Written to ${values.svg}`);
    }
    terminal.out(values.json ? JSON.stringify({ forecast, advice }) : forecastText(forecast, advice));
    return 0;
  },
});

function forecastText(forecast: CapacityForecast, advice: CapacityRecommendations): string {
  if (forecast.points.length === 0) return 'No forecast: no snapshot has been taken yet.';
  const lines = [titleOf(forecast), textPlot(bandsOf(forecast), plotWidth(), PLOT_HEIGHT)];
  const { backtest } = forecast;
  if (backtest !== null) {
    const share = Math.round(100 * backtest.coverage_95);
    lines.push(
      `On its own past: mean error ${backtest.mae.toFixed(2)}, that of the seasonal naive forecast ` +
        `${backtest.naive_mae.toFixed(2)}; the 95% interval held ${share}% of ${backtest.points} points`,
    );
  }
  for (const { action, miners, gpu_name, reason } of advice.recommendations) {
    const what = action === 'keep' ? 'keep' : `${action} ${miners} x ${gpu_name ?? 'miner'}`;
    lines.push(`${what}: ${reason}`);
  }
  return lines.join('\n');
}

function plotWidth(): number {
  // A file or a pipe has no columns, a terminal that does not know its size says 0.
  const columns = process.stdout.columns || Number.POSITIVE_INFINITY;
  return Math.max(PLOT_WIDTH.min, Math.min(PLOT_WIDTH.max, columns - SCALE_WIDTH));
}

function titleOf({ method, history_hours, points }: CapacityForecast): string {
  const method_name = method.replaceAll('_', ' ');
  return `Places in use over the next ${points.length} h, by ${method_name} on ${history_hours} h of history`;
}

function bandsOf({ points }: CapacityForecast) {
  return points.map(({ expected, interval_95: { lower, upper } }) => ({ lower, expected, upper }));
}
