import { fleetOf } from '../support/fleets.ts';
import { Player } from '../support/histories.ts';
import type { World } from '../support/registry-world.ts';

const SEED = 9;
const STEP_MS = 5_000;

/** Who is where after some time. */
export interface Census {
  readonly online: number;
  readonly degraded: number;
  readonly registered: number;
  readonly removed: number;
  readonly held: number;
}

/** A pool in time: miners that beat, hubs that are there, a reaper, all on the clock of the scripts. */
export class Life {
  readonly #world: World;
  readonly #player: Player;
  /** Miners by their number that beat. */
  readonly beating = new Set<number>();
  hubsAreThere = true;

  private constructor(world: World, player: Player) {
    this.#world = world;
    this.#player = player;
  }

  /** Miners that have been online for a while. */
  static async begin(world: World, size: number): Promise<Life> {
    const miners = fleetOf({ style: 'equal', size, seed: SEED });
    const player = new Player(world, miners);
    await Promise.all(miners.map((miner) => player.enter(miner)));
    const life = new Life(world, player);
    for (let who = 0; who < size; who++) life.beating.add(who);
    await life.pass(120_000);
    return life;
  }

  /** Lets time pass, with a look at the pool after each step. */
  async pass(ms: number, look: (census: Census, atMs: number) => void = () => {}): Promise<Census> {
    const { miners, leaseMs, shards } = this.#world;
    const beatEveryMs = leaseMs / 3;
    for (let passedMs = 0; passedMs < ms; passedMs += STEP_MS) {
      this.#world.nowMs += STEP_MS;
      if (this.hubsAreThere) {
        await miners.alive();
        if (passedMs % beatEveryMs < STEP_MS) await this.#beat();
      }
      for (let shard = 0; shard < shards; shard++) await miners.reap(shard, 1000);
      look(await this.census(), passedMs + STEP_MS);
    }
    return this.census();
  }

  async census(): Promise<Census> {
    const { online, degraded, registered, reaped, reaperHeld } = await this.#world.miners.stats();
    return { online, degraded, registered, removed: reaped, held: reaperHeld };
  }

  async #beat(): Promise<void> {
    await Promise.all([...this.beating].map((who) => this.#player.play({ do: 'beat', who, seed: who })));
  }
}
