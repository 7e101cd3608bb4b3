import type { SlaMetrics, SlaStatus, SlaViolations } from '../../sdk/types.ts';
import { defineCommand } from '../command.ts';
import { HUB_OPTIONS, openClient } from '../hub-access.ts';
import { wholeOption } from '../numbers.ts';
import { sparkline } from '../plot.ts';
import { formatTable } from '../table.ts';

const MAX_HOURS = 24 * 366;
const MAX_ROWS = '1000';

/** Measurements that a sparkline shows; the older ones are left out. */
const SPARK_WIDTH = 48;

export const slaReport = defineCommand({
  name: 'sla report',
  summary: 'Shows the service levels of a miner, or of all, as they were over the last hours.',
  options: {
    ...HUB_OPTIONS,
    miner: { type: 'string', value: 'id', help: 'of one miner alone' },
    hours: { type: 'string', value: 'n', default: '24', help: 'how far to look back' },
    json: { type: 'boolean', help: 'print JSON' },
  },
  notes:
    'Needs COORDINATOR_SHARED_SECRET or ADMIN_API_KEY in the environment. Of a large pool the newest 1,000 measurements are shown.',
  async run({ values }, terminal) {
    const client = openClient(values.url, terminal);
    const hours = String(wholeOption('hours', values.hours, { min: 1, max: MAX_HOURS }));
    const [metrics, violations, status] = await Promise.all([
      client.slaMetrics(values.miner, { hours, limit: MAX_ROWS }),
      client.openViolations(),
      client.slaStatus(),
    ]);
    terminal.out(
      values.json ? JSON.stringify({ metrics, violations, status }) : reportText(metrics, violations, status),
    );
    return 0;
  },
});

function reportText(metrics: SlaMetrics, violations: SlaViolations, status: SlaStatus): string {
  const summary =
    `${status.status}: ${status.active_violations} open violations, ` +
    `${status.miners_in_violation} of ${status.miners_measured} miners`;
  if (metrics.length === 0) return `${summary}\nNothing was measured in this time.`;
  const series = new Map<string, SlaMetrics>();
  for (const metric of metrics) {
    const key = `${metric.miner_id ?? ''}\n${metric.metric_type}`;
    series.set(key, [...(series.get(key) ?? []), metric]);
  }
  const rows = [...series.values()].map((list) => rowOf(list, violations));
  const headings = ['MINER', 'METRIC', 'NOW', 'THRESHOLD', 'LOW', 'HIGH', 'OPEN', 'OVER TIME'];
  return `${formatTable(headings, rows)}\n${summary}`;
}

/** @param list measurements of one metric, the newest first */
function rowOf(list: SlaMetrics, violations: SlaViolations): (string | number)[] {
  const [newest] = list as [SlaMetrics[number]];
  const values = list.map(({ metric_value }) => metric_value);
  const open = violations.find(
    ({ miner_id, violation_type }) => miner_id === newest.miner_id && violation_type === newest.metric_type,
  );
  return [
    newest.miner_id ?? '(pool)',
    newest.metric_type,
    digits(newest.metric_value),
    digits(newest.threshold),
    digits(Math.min(...values)),
    digits(Math.max(...values)),
    open?.severity ?? '-',
    sparkline(values.slice(0, SPARK_WIDTH).reverse()),
  ];
}

function digits(value: number): number {
  return Math.round(value * 10) / 10;
}
