import { HubClient } from '../../sdk/hub-client.ts';
import { fleetKey, makeFleet } from '../fleet.ts';
import { Progress, type ProgressStream } from '../progress.ts';
import { RateMeter } from '../rate-meter.ts';
import { Simulation, type SimulationTotals } from '../simulation.ts';
import { type CoordinatorTotals, DEMO_TAG, DemoCoordinator } from './coordinator.ts';

export interface DemoOptions {
  readonly urls: readonly string[];
  readonly coordinatorSecret: string;
  /** Where the summary is drawn. */
  readonly screen: ProgressStream;
  /** Ends the demo. */
  readonly signal: AbortSignal;
  readonly miners?: number;
  readonly matchesPerSec?: number;
  readonly seed?: number;
}

export interface DemoTotals {
  readonly fleet: SimulationTotals;
  readonly jobs: CoordinatorTotals;
}

/** Online miners as the hub counts them are asked for this often, ms. */
const HEALTH_EVERY_MS = 1_000;

const DEFAULTS = { miners: 200, matchesPerSec: 20, seed: 1 };

/**
 * A fleet of simulated miners on WebSockets and a coordinator that gives them jobs, with a summary of one screen that changes in place
 * (a line every few seconds where that cannot be). Runs until the signal, then logs the miners out. The hub must have open
 * enrollment. With its default limit of 5 registrations a second, 200 miners take 40 s to come.
 * @throws HubError when the hub refuses the miners
 */
export async function runDemo(options: DemoOptions): Promise<DemoTotals> {
  const { urls, coordinatorSecret, signal } = options;
  const seed = options.seed ?? DEFAULTS.seed;
  const client = new HubClient({ urls, coordinatorSecret });
  const simulation = new Simulation({
    client,
    fleet: makeFleet(options.miners ?? DEFAULTS.miners, { seed, idPrefix: 'demo', tag: DEMO_TAG }),
    keyOf: (minerId) => fleetKey(seed, minerId),
    transport: 'ws',
    seed,
    selfLoad: false,
  });
  const matchesPerSec = options.matchesPerSec ?? DEFAULTS.matchesPerSec;
  const coordinator = new DemoCoordinator({ client, simulation, matchesPerSec, seed });
  const summary = summarise(simulation, coordinator);
  const health = setInterval(() => void summary.askHealth(client), HEALTH_EVERY_MS);
  const progress = new Progress(options.screen, summary);
  const end = () => {
    coordinator.stop();
    void simulation.stop({ logout: false });
  };
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  try {
    await Promise.all([simulation.start(), coordinator.run()]);
  } finally {
    end();
    clearInterval(health);
    await simulation.stop({ logout: true });
    progress.stop();
  }
  return { fleet: simulation.totals(), jobs: coordinator.totals() };
}

/** What the screen shows. */
function summarise(simulation: Simulation, coordinator: DemoCoordinator) {
  const beats = new RateMeter();
  const matches = new RateMeter();
  let online: number | null = null;
  return {
    async askHealth(client: HubClient): Promise<void> {
      // A hub that cannot be asked has an unknown number of miners, which the screen says; the next second asks again.
      online = await client.health().then(
        (health) => health.online_miners,
        () => null,
      );
    },
    line(): string {
      const { matches: count, recent_match_latency: latency, endings } = coordinator.totals();
      return (
        `miners online ${online ?? '?'} · matches ${matches.read(count).toFixed(1)}/s ` +
        `p50 ${ms(latency.p50_ms)} p99 ${ms(latency.p99_ms)} · ${countsOf(endings)}`
      );
    },
    screen(): string[] {
      const fleet = simulation.totals();
      const jobs = coordinator.totals();
      const { recent_match_latency: match } = jobs;
      const { completed, failed, ...notGiven } = jobs.endings;
      const { recent_beat_latency: beat } = fleet;
      const matchRate = matches.read(jobs.matches).toFixed(1);
      const beatRate = beats.read(fleet.beats).toFixed(1);
      return [
        '',
        `Miners     ${online ?? '?'} online · ${fleet.connected} of ${fleet.miners} simulated ones connected`,
        `Matches    ${matchRate}/s · p50 ${ms(match.p50_ms)} · p99 ${ms(match.p99_ms)} · ${jobs.matches} in all`,
        `Heartbeats ${beatRate}/s · p50 ${ms(beat.p50_ms)} · p99 ${ms(beat.p99_ms)} · ${fleet.beats} in all`,
        `Jobs       ${jobs.in_flight} at work · ${countsOf({ completed, failed })}`,
        `Not given  ${countsOf(notGiven)}`,
        `Trouble    ${countsOf({ ...fleet.interruptions, ...jobs.errors }) || 'none'}`,
        `Last       ${jobs.last}`,
        `           ${jobs.why}`,
        '',
      ];
    },
  };
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`;
}

function countsOf(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${name.replaceAll('_', ' ')} ${count}`)
    .join(' · ');
}
