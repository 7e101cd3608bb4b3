import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../sdk/errors.ts';
import { SocketClosedError } from '../sdk/heartbeat-socket.ts';
import type { HubClient } from '../sdk/hub-client.ts';
import type { HeartbeatFrame } from '../sdk/types.ts';
import { forEachLimited } from './bulk.ts';
import type { FleetMiner } from './fleet.ts';
import { Latencies, type LatencySummary } from './latency.ts';
import { normal, type Random, seededRandom } from './random.ts';
import { ReferenceMiner } from './reference-miner.ts';

export interface SimulationOptions {
  readonly client: HubClient;
  readonly fleet: readonly FleetMiner[];
  /** The key each one registers with. */
  readonly keyOf: (minerId: string) => string | Promise<string>;
  readonly transport: 'ws' | 'http';
  readonly intervalMs?: number | undefined;
  readonly seed: number;
  /** Adds changing loads of their own, for a fleet that no coordinator gives jobs to. */
  readonly selfLoad: boolean;
}

export interface SimulationTotals {
  readonly miners: number;
  /** Sessions whose last heartbeat was answered. */
  readonly connected: number;
  readonly registrations: number;
  readonly beats: number;
  readonly beat_latency: LatencySummary;
  readonly recent_beat_latency: LatencySummary;
  readonly commands: number;
  /** Failures that a session got over or tries to, by code. */
  readonly interruptions: Readonly<Record<string, number>>;
  /** Sessions that ended for good without being asked to. */
  readonly lost: number;
}

/** So many sessions may be on their way to a first registration; the hub limits registrations, and a crowd would only be refused. */
const REGISTERING = 16;
const LEAVING = 32;
const LATENCY_JITTER = 0.1;

/** A fleet of miners that register, beat and do what they are told, until they are stopped. */
export class Simulation {
  readonly miners = new Map<string, { miner: ReferenceMiner; traits: FleetMiner }>();
  readonly #options: SimulationOptions;
  readonly #latencies = new Latencies();
  readonly #connected = new Set<string>();
  readonly #interruptions = new Map<string, number>();
  readonly #stopping = new AbortController();
  readonly #sessions: Promise<void>[] = [];
  readonly #random: Random;
  #registrations = 0;
  #beats = 0;
  #commands = 0;
  #lost = 0;

  constructor(options: SimulationOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
  }

  /**
   * Brings the fleet online; resolves when every miner has registered once (or `stop` was called).
   * @throws HubError when the hub refuses a miner for good
   */
  async start(): Promise<void> {
    const { fleet } = this.#options;
    await forEachLimited(fleet, REGISTERING, this.#stopping.signal, (traits) => this.#launch(traits));
  }

  totals(): SimulationTotals {
    return {
      miners: this.#options.fleet.length,
      connected: this.#connected.size,
      registrations: this.#registrations,
      beats: this.#beats,
      beat_latency: this.#latencies.total(),
      recent_beat_latency: this.#latencies.recent(),
      commands: this.#commands,
      interruptions: Object.fromEntries(this.#interruptions),
      lost: this.#lost,
    };
  }

  /** Ends every session; with `logout` the miners leave the registry at once, else their leases run out. */
  async stop({ logout }: { logout: boolean }): Promise<void> {
    this.#stopping.abort();
    for (const { miner } of this.miners.values()) miner.session.stop();
    await Promise.all(this.#sessions);
    if (logout) await this.#logOut();
  }

  /** A hub that does not answer one logout is not asked for the others: the leases run out by themselves. */
  async #logOut(): Promise<void> {
    const gone = new AbortController();
    await forEachLimited(this.miners.values(), LEAVING, gone.signal, async ({ miner }) => {
      try {
        await miner.session.logout();
      } catch (error) {
        if (!(error instanceof HubError)) throw error;
        this.#count(error.code);
        if (error.status === 0) gone.abort();
      }
    });
  }

  async #launch(traits: FleetMiner): Promise<void> {
    const { client, keyOf, transport, intervalMs, selfLoad } = this.#options;
    const { profile } = traits;
    const api_key = await keyOf(profile.miner_id);
    const load = selfLoad ? wanderingLoad(profile.max_parallel, this.#random) : undefined;
    const miner = new ReferenceMiner({
      client,
      profile: { ...profile, api_key },
      transport,
      intervalMs,
      sensors: () => sensors(traits, this.#random),
      ...(load === undefined ? {} : { load }),
    });
    this.miners.set(miner.id, { miner, traits });
    if (this.#stopping.signal.aborted) return;
    await new Promise<void>((resolve, reject) => {
      this.#listen(miner, resolve);
      const running = miner.session.run().then(
        (end) => {
          if (end === 'replaced') this.#lose(miner.id, 'replaced');
          resolve();
        },
        (error) => {
          this.#lose(miner.id, error instanceof HubError ? error.code : 'failed');
          reject(error);
        },
      );
      this.#sessions.push(running);
    });
  }

  #listen(miner: ReferenceMiner, onRegistered: () => void): void {
    let registered = false;
    miner.session.on('registered', () => {
      registered = true;
      this.#registrations += 1;
      onRegistered();
    });
    miner.session.on('beat', (latencyMs) => {
      this.#beats += 1;
      this.#latencies.record(latencyMs);
      this.#connected.add(miner.id);
    });
    miner.session.on('interrupted', (error) => {
      this.#connected.delete(miner.id);
      // A new miner that waits for its turn to register is not interrupted in anything.
      if (!registered && error instanceof HubError && error.code === 'rate_limited') return;
      this.#count(
        error instanceof SocketClosedError ? `closed_${error.closeCode}` : (error as HubError).code,
      );
    });
    miner.session.on('command', () => {
      this.#commands += 1;
    });
  }

  #lose(minerId: string, why: string): void {
    this.#lost += 1;
    this.#connected.delete(minerId);
    this.#count(why);
  }

  #count(code: string): void {
    this.#interruptions.set(code, (this.#interruptions.get(code) ?? 0) + 1);
  }
}

/** Waits for so many seconds (for ever when undefined), but not longer than until the signal. */
export async function sleepUntil(seconds: number | undefined, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  if (seconds !== undefined) {
    await sleep(seconds * 1000, undefined, { signal }).catch(() => {}); // Rejects for the signal alone.
    return;
  }
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}

function sensors({ profile, latency_ms }: FleetMiner, random: Random): HeartbeatFrame {
  return {
    avg_latency_ms: Math.max(1, Math.round(latency_ms * Math.exp(LATENCY_JITTER * normal(random)))),
    temp_c: Math.round(55 + 20 * random()),
    mem_free_gb: Math.round(Number(profile.ram_gb) * (0.3 + 0.5 * random())),
  };
}

/** A number of jobs that goes up or down by one now and then. */
function wanderingLoad(places: number, random: Random): () => number {
  let jobs = 0;
  return () => {
    const step = random();
    if (step < 0.25) jobs = Math.max(0, jobs - 1);
    else if (step > 0.75) jobs = Math.min(places, jobs + 1);
    return jobs;
  };
}
