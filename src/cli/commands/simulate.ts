import { defineCommand } from '../command.ts';
import { UsageError } from '../errors.ts';
import { explainRefusal, FLEET_NOTES, FLEET_OPTIONS, fleetFrom } from '../fleet-options.ts';
import { HUB_OPTIONS, openClient } from '../hub-access.ts';
import { numberOption } from '../numbers.ts';
import { Progress } from '../progress.ts';
import { RateMeter } from '../rate-meter.ts';
import { Simulation, type SimulationTotals, sleepUntil } from '../simulation.ts';

const DAY_SEC = 86_400;
const MAX_RATE = 1_000_000;

export const simulate = defineCommand({
  name: 'simulate',
  summary: 'Runs a made-up fleet: every miner registers, beats, obeys commands and reconnects.',
  options: {
    ...HUB_OPTIONS,
    ...FLEET_OPTIONS,
    transport: { type: 'string', value: 'kind', default: 'ws', help: 'ws or http' },
    rate: {
      type: 'string',
      value: 'n',
      help: 'heartbeats a second of the whole fleet, instead of the interval the server asks for',
    },
    duration: { type: 'string', value: 'sec', help: 'ends by itself after so many seconds, else at Ctrl-C' },
    stay: { type: 'boolean', help: 'do not log the miners out at the end' },
    json: { type: 'boolean', help: 'print the totals as JSON' },
  },
  notes: `${FLEET_NOTES}\nIt closes the socket of a miner that beats faster than RATE_LIMIT_HEARTBEAT_PER_SEC (5): mind --rate.`,
  async run({ values }, terminal) {
    const { transport } = values;
    if (transport !== 'ws' && transport !== 'http') throw new UsageError('--transport must be ws or http');
    const client = openClient(values.url, terminal);
    const fleet = fleetFrom(values, client);
    const signal = terminal.stopSignal();
    const perSec = optional(values.rate, (text) => numberOption('rate', text, { min: 0.001, max: MAX_RATE }));
    const durationSec = optional(values.duration, (text) =>
      numberOption('duration', text, { min: 0.1, max: DAY_SEC }),
    );
    const simulation = new Simulation({
      client,
      fleet: fleet.miners,
      keyOf: fleet.keyOf,
      transport,
      seed: fleet.seed,
      selfLoad: true,
      intervalMs: perSec === undefined ? undefined : (fleet.miners.length * 1000) / perSec,
    });
    const meter = new RateMeter();
    const line = () => progressLine(simulation.totals(), meter);
    const progress = new Progress(process.stderr, { line, screen: () => [line()] });
    const over = new AbortController();
    try {
      signal.addEventListener('abort', () => over.abort(), { once: true });
      over.signal.addEventListener('abort', () => void simulation.stop({ logout: false }), { once: true });
      const timeIsUp = sleepUntil(durationSec, over.signal);
      await Promise.all([simulation.start(), timeIsUp.then(() => over.abort())]);
    } catch (error) {
      throw explainRefusal(error, values.enroll);
    } finally {
      over.abort();
      await simulation.stop({ logout: !values.stay });
      progress.stop();
    }
    const totals = simulation.totals();
    terminal.out(values.json ? JSON.stringify(totals) : summaryOf(totals));
    return totals.lost > 0 ? 1 : 0;
  },
});

function optional<T>(text: string | undefined, read: (text: string) => T): T | undefined {
  return text === undefined ? undefined : read(text);
}

function progressLine(totals: SimulationTotals, meter: RateMeter): string {
  const { recent_beat_latency: latency } = totals;
  const perSec = meter.read(totals.beats).toFixed(1);
  return (
    `connected ${totals.connected}/${totals.miners} · beats ${totals.beats} (${perSec}/s) · ` +
    `p50 ${latency.p50_ms.toFixed(1)} ms · p99 ${latency.p99_ms.toFixed(1)} ms · interrupted ${interrupted(totals)}`
  );
}

function interrupted({ interruptions }: SimulationTotals): number {
  return Object.values(interruptions).reduce((sum, count) => sum + count, 0);
}

function summaryOf(totals: SimulationTotals): string {
  const { beat_latency: latency } = totals;
  const reasons = Object.entries(totals.interruptions).map(([code, count]) => `${code} ${count}`);
  return [
    `${totals.registrations} registrations, ${totals.beats} heartbeats, ${totals.commands} commands obeyed`,
    `heartbeat p50 ${latency.p50_ms.toFixed(2)} ms, p99 ${latency.p99_ms.toFixed(2)} ms`,
    `interrupted: ${reasons.join(', ') || 'never'}; lost for good: ${totals.lost}`,
  ].join('\n');
}
