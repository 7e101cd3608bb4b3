import fc from 'fast-check';
import { match } from '../../src/hub/matching/match.ts';
import type { MatchInput } from '../../src/hub/matching/types.ts';
import type { Credential, DurableState } from '../../src/hub/miners/types.ts';
import { applyTrust } from '../../src/hub/trust/feedback.ts';
import {
  FLEET_STYLES,
  type FleetMiner,
  type FleetSpec,
  fleetOf,
  POOLS,
  randomPrice,
  randomProfile,
} from './fleets.ts';
import { Random } from './random.ts';
import type { World } from './registry-world.ts';
import { matchRequests } from './requests.ts';

/** One event; `who` counts round the fleet, `seed` fills in the details. */
export type Event =
  | { do: 'register' | 'beat' | 'update' | 'override' | 'cap' | 'feedback'; who: number; seed: number }
  | { do: 'drain' | 'resume' | 'remove' | 'logout'; who: number }
  | { do: 'reserve'; request: MatchInput; count: number; ttlMs: number }
  | { do: 'end'; which: number; outcome: 'confirmed' | 'released' }
  | { do: 'advance'; ms: number }
  | { do: 'reap'; limit: number };

/** A fleet, and what happens to it. */
export interface History {
  readonly fleet: FleetSpec;
  readonly events: readonly Event[];
}

const who = fc.nat(39);
const seed = fc.nat();

const events: fc.Arbitrary<Event> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('register' as const), who, seed }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('beat' as const), who, seed }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('update' as const), who, seed }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('override' as const, 'cap' as const), who, seed }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('feedback' as const), who, seed }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('drain' as const, 'resume' as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('remove' as const, 'logout' as const), who }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('reserve' as const),
      request: matchRequests,
      count: fc.integer({ min: 1, max: 4 }),
      ttlMs: fc.constantFrom(1000, 30_000, 600_000),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      which: fc.nat(30),
      outcome: fc.constantFrom('confirmed' as const, 'released' as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('advance' as const),
      ms: fc.constantFrom(1, 900, 20_000, 60_000, 61_000, 120_000, 200_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('reap' as const), limit: fc.constantFrom(1, 5, 1000) }),
  },
);

/** Histories of fleets of every style. */
export function histories(limits: { fleet: number; events: number }): fc.Arbitrary<History> {
  return fc.record({
    fleet: fc.record({
      style: fc.constantFrom(...FLEET_STYLES),
      size: fc.integer({ min: 1, max: limits.fleet }),
      seed,
    }),
    events: fc.array(events, { maxLength: limits.events }),
  });
}

/** No two sessions are alike, whoever asks. */
let sessions = 0;

/** What clients of the registry remember while a history runs. */
export class Player {
  readonly #world: World;
  readonly #ids: readonly string[];
  readonly #sessions = new Map<string, string>();
  readonly #trust = new Map<string, { seq: number; alpha: number; beta: number }>();
  readonly #reservations: string[] = [];

  constructor(world: World, fleet: readonly FleetMiner[]) {
    this.#world = world;
    this.#ids = fleet.length > 0 ? fleet.map(({ id }) => id) : ['m0'];
  }

  /** Registers a miner as its fleet says, with a first heartbeat. */
  async enter({ id, profile, latencyMs, completed, failed }: FleetMiner): Promise<void> {
    this.#trust.set(id, { seq: completed + failed, alpha: 2 + completed, beta: 2 + failed });
    await this.#register(id, profile);
    if (latencyMs === undefined) return;
    await this.#world.miners.heartbeat(id, this.#session(id), { avg_latency_ms: latencyMs });
  }

  async play(event: Event): Promise<void> {
    const { miners, matching } = this.#world;
    switch (event.do) {
      case 'advance':
        this.#world.nowMs += event.ms;
        return;
      case 'reap':
        await Promise.all(Array.from({ length: this.#world.shards }, (_, s) => miners.reap(s, event.limit)));
        return;
      case 'reserve': {
        const reserve = { count: Math.min(event.count, event.request.top_k), ttl_ms: event.ttlMs };
        const { answer } = await match(matching(), { ...event.request, reserve });
        this.#reservations.push(...answer.candidates.flatMap((c) => c.reservation_id ?? []));
        return;
      }
      case 'end': {
        const id = this.#reservations[event.which % Math.max(1, this.#reservations.length)];
        if (id !== undefined) await matching().reservations.end(id, event.outcome);
        return;
      }
      default:
        await this.#playMiner(this.#ids[event.who % this.#ids.length] as string, event);
    }
  }

  async #playMiner(id: string, event: Extract<Event, { who: number }>): Promise<void> {
    const { miners, nowMs } = this.#world;
    const random = new Random('seed' in event ? event.seed : 0);
    const places = { queue_len: random.below(4), busy: random.chance(0.15) };
    switch (event.do) {
      case 'register':
        await this.#register(id, randomProfile(random));
        return;
      case 'beat': {
        const latency = random.chance(0.5) ? { avg_latency_ms: random.pick(POOLS.latenciesMs) } : {};
        await miners.heartbeat(id, this.#session(id), random.chance(0.2) ? {} : { ...places, ...latency });
        return;
      }
      case 'update': {
        const { tags, capabilities, accel, region } = randomProfile(random);
        const changes = {
          base_price: randomPrice(random),
          max_parallel: random.pick(POOLS.places),
          tags,
          capabilities,
          accel,
          region,
        };
        const change = Object.fromEntries(random.some(Object.entries(changes), 0.4));
        const draining = random.chance(0.2) ? { draining: random.chance(0.5) } : {};
        await miners.update(id, this.#session(id), random.chance(0.5) ? {} : places, {
          ...change,
          ...draining,
        });
        return;
      }
      case 'override': {
        const until = random.chance(0.7) ? nowMs + random.pick([1000, 30_000, 100_000]) : undefined;
        await miners.setPriceOverride(id, random.chance(0.25) ? null : randomPrice(random), until);
        return;
      }
      case 'cap':
        await miners.addCommand(id, 'set_price_cap', {}, random.chance(0.25) ? 'none' : randomPrice(random));
        return;
      case 'feedback':
        await this.#feedback(id, random);
        return;
      case 'drain':
      case 'resume':
        await miners.addCommand(id, event.do, {});
        return;
      case 'remove':
        await miners.remove(id, 'operator');
        return;
      case 'logout':
        await miners.logout(id, this.#session(id));
    }
  }

  async #register(id: string, profile: FleetMiner['profile']): Promise<void> {
    const digest = `session-${++sessions}`;
    this.#sessions.set(id, digest);
    const { seq, alpha, beta } = this.#trustOf(id);
    const durable: DurableState = {
      alpha,
      beta,
      trustSeq: seq,
      observedLatencyMs: seq > 2 ? 10 * seq : '',
      observedSamples: seq,
      priceOverride: '',
      priceOverrideUntilMs: '',
    };
    const input = { minerId: id, keyDigest: `key-${id}`, sessionDigest: digest, profile, durable };
    const { status } = await this.#world.miners.register(input);
    if (status !== 'ok') throw new Error(`register answered ${status}`);
  }

  async #feedback(id: string, random: Random): Promise<void> {
    const before = this.#trustOf(id);
    const trust = {
      seq: before.seq + 1,
      alpha: before.alpha + Number(random.chance(0.6)),
      beta: before.beta + random.pick([0, 0.2, 0.25, 1]),
    };
    this.#trust.set(id, trust);
    const reservation = random.chance(0.5) ? random.pick(this.#reservations) : undefined;
    const end = random.pick(['confirmed', 'released']);
    await applyTrust(
      this.#world,
      {
        minerId: id,
        ...trust,
        score: trust.alpha / (trust.alpha + trust.beta),
        observedLatencyMs: trust.seq > 1 ? random.pick(POOLS.latenciesMs) + 0.125 : null,
        observedSamples: trust.seq,
      },
      reservation === undefined ? undefined : { id: reservation, end },
    );
  }

  #trustOf(id: string): { seq: number; alpha: number; beta: number } {
    return this.#trust.get(id) ?? { seq: 0, alpha: 2, beta: 2 };
  }

  #session(id: string): Credential {
    return { kind: 'session', digest: this.#sessions.get(id) ?? 'none' };
  }
}

/** Plays a whole history on a fresh world. */
export async function playHistory(world: World, { fleet, events }: History): Promise<void> {
  const miners = fleetOf(fleet);
  const player = new Player(world, miners);
  await Promise.all(miners.map((miner) => player.enter(miner)));
  for (const event of events) await player.play(event);
}

/** Steps everything that is due, on every shard, until nothing is: one miner may take two steps. */
export async function settleDue({ miners, shards }: World): Promise<void> {
  for (let shard = 0; shard < shards; shard++) {
    while ((await miners.reap(shard, 1000)).stepped > 0);
  }
}
