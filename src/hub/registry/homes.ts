import { setTimeout as sleep } from 'node:timers/promises';
import { unavailable } from '../../platform/errors.ts';
import { shardBeside, shardPrefix } from '../../platform/keys.ts';
import type { Logger } from '../../platform/logger.ts';
import type { ScriptReply, Scripts } from '../../platform/scripts.ts';
import { formerHomeOf, homeOf, type Layout, LayoutChanged, Layouts, shardCount } from './layout.ts';
import { Mover } from './mover.ts';

/** Layouts change twice in a rebalance; whoever meets so many others in one call has met a fault. */
const ATTEMPTS = 10;
const BACKOFF_MS = 5;

/** What scripts answer when the miner or reservation that they were called for is not in the shard, or not known by this credential. */
const ABSENT: ReadonlySet<string> = new Set(['session_unknown', 'unknown_miner', 'unknown']);

type Arguments = readonly (string | number)[];

/**
 * Where miners, jobs and reservations live: the one way by which stores find the shard for an id. While the number of shards
 * changes, a miner is at its former home until it is moved; calls are served where it is.
 */
export class Homes {
  readonly layouts: Layouts;
  readonly #mover: Mover;
  readonly #scripts: Scripts;

  /** @param shards REDIS_SHARDS, of a registry that has no layout yet */
  constructor(scripts: Scripts, shards: number, log: Pick<Logger, 'warn' | 'info'>) {
    this.#scripts = scripts;
    this.layouts = new Layouts(scripts, { shards, log });
    this.#mover = new Mover(scripts, this.layouts);
  }

  /** Shards that hold miners now. */
  async count(): Promise<number> {
    return shardCount(await this.layouts.ready());
  }

  /** For `Scripts.run`, of what needs the home of a miner and not the miner. */
  homeOf(minerId: string): number {
    return homeOf(this.layouts.current, minerId);
  }

  /** Runs a script for a miner that should be in the registry, where it is. `args` follow its id. */
  run(script: string, minerId: string, args: Arguments): Promise<ScriptReply> {
    return this.serve(minerId, (shard) => this.#scripts.run(script, shard, [minerId, ...args]));
  }

  /**
   * The same for what runs scripts in a way of its own. @param call runs, on a shard, a script that changes nothing where the miner is not;
   * and says so
   */
  serve(minerId: string, call: (shard: number) => Promise<ScriptReply>): Promise<ScriptReply> {
    return this.#settled(async (layout) => {
      const home = homeOf(layout, minerId);
      const former = formerHomeOf(layout, minerId);
      let reply = await call(home);
      if (former !== undefined && isAbsent(reply)) {
        reply = await call(former);
        if (isAbsent(reply)) {
          // On its way, moved since the first call, or nowhere.
          await this.#mover.bring(layout, minerId);
          reply = await call(home);
        }
      }
      if (isAbsent(reply)) this.layouts.check(layout);
      return reply;
    });
  }

  /** Runs a script that may make a miner: at home, where all that there was of it is brought first. */
  runAtHome(script: string, minerId: string, args: Arguments): Promise<ScriptReply> {
    return this.#settled(async (layout) => {
      await this.#mover.bring(layout, minerId);
      return this.#scripts.run(script, this.layouts.pin(layout, homeOf(layout, minerId)), [minerId, ...args]);
    });
  }

  /** Runs a script for a job, in its home shard. `args` follow its id. */
  runForJob(script: string, jobId: string, args: Arguments): Promise<ScriptReply> {
    return this.#settled(async (layout) => {
      const home = homeOf(layout, jobId);
      const former = formerHomeOf(layout, jobId);
      if (former !== undefined) await this.#mover.bringEntry(layout, `job:${jobId}`, former, home);
      return this.#scripts.run(script, this.layouts.pin(layout, home), [jobId, ...args]);
    });
  }

  /** Runs a script for a reservation, which lives beside its miner. `args` follow its id. */
  runForReservation(script: string, reservationId: string, args: Arguments): Promise<ScriptReply> {
    return this.#settled(async (layout) => {
      const all = [reservationId, ...args];
      let reply: ScriptReply = ['unknown'];
      // Its miner moves only from the former home, so a look at home before and one after cannot both miss it.
      for (const shard of reservationShards(layout, reservationId)) {
        reply = await this.#scripts.run(script, this.layouts.pin(layout, shard), all);
        if (!isAbsent(reply)) break;
      }
      return reply;
    });
  }

  /** Runs a script on every shard. @returns the replies in the order of the shards, all of one layout */
  onAll(script: string, args: Arguments): Promise<ScriptReply[]> {
    return this.#settled((layout) =>
      Promise.all(
        Array.from({ length: shardCount(layout) }, (_, shard) =>
          this.#scripts.run(script, this.layouts.pin(layout, shard), args),
        ),
      ),
    );
  }

  /** Brings a miner to its home, if it is not there. @returns whether it was moved */
  bring(minerId: string): Promise<boolean> {
    return this.#settled((layout) => this.#mover.bring(layout, minerId));
  }

  /** The same for a reservation without a miner, or the plan of a job (`job:<id>`). */
  bringEntry(name: string): Promise<boolean> {
    return this.#settled(async (layout) => {
      const id = name.slice(name.indexOf(':') + 1);
      const [home, former] = name.startsWith('job:')
        ? [homeOf(layout, id), formerHomeOf(layout, id)]
        : reservationShards(layout, id);
      if (home === undefined || former === undefined) return false;
      return this.#mover.bringEntry(layout, name, former, home);
    });
  }

  /**
   * Reads, or deletes, what belongs to a miner, by plain commands: they are not held to the layout, so what was not found is looked for again
   * until nothing has changed meanwhile.
   * @param look is given the prefix of a shard; undefined or 0 says that it was not there
   */
  find<T>(
    minerId: string,
    look: (prefix: string, shard: number) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    return this.#lookUntilSure(look, async (layout) => {
      if (formerHomeOf(layout, minerId) !== undefined) await this.#mover.bring(layout, minerId);
      return [homeOf(layout, minerId)];
    });
  }

  /** The same for what belongs to a reservation. */
  findReservation<T>(
    id: string,
    look: (prefix: string, shard: number) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    return this.#lookUntilSure(look, async (layout) => reservationShards(layout, id));
  }

  /** Prefixes of the shards where a miner may be, its home first. */
  async prefixesOf(minerId: string): Promise<string[]> {
    const layout = await this.layouts.ready();
    const former = formerHomeOf(layout, minerId);
    return [homeOf(layout, minerId), ...(former === undefined ? [] : [former])].map((shard) =>
      shardPrefix(this.#scripts.prefix, shard),
    );
  }

  async #lookUntilSure<T>(
    look: (prefix: string, shard: number) => Promise<T | undefined>,
    shardsOf: (layout: Layout) => Promise<readonly number[]>,
  ): Promise<T | undefined> {
    return this.#settled(async (layout) => {
      for (const shard of await shardsOf(layout)) {
        const found = await look(shardPrefix(this.#scripts.prefix, shard), shard);
        if (found !== undefined && found !== 0) return found;
      }
      await this.layouts.refresh();
      this.layouts.check(layout);
      return undefined;
    });
  }

  /** Does `work` by one layout: from the start again when another comes in between. */
  async #settled<T>(work: (layout: Layout) => Promise<T>): Promise<T> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      try {
        return await work(await this.layouts.ready());
      } catch (error) {
        if (!(error instanceof LayoutChanged)) throw error;
        await sleep(Math.random() * BACKOFF_MS * 2 ** attempt);
      }
    }
    throw unavailable('the registry, whose shards are changing,');
  }
}

function isAbsent(reply: ScriptReply): boolean {
  return ABSENT.has(reply[0]);
}

/** Where a reservation may be, in the order to look; none for what is no reservation's id. */
function reservationShards({ shards, moving }: Layout, id: string): number[] {
  const home = shardBeside(id, moving?.shards ?? shards);
  const former = shardBeside(id, shards);
  if (home === undefined || former === undefined) return [];
  return home === former ? [home] : [home, former, home];
}
