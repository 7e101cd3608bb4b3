import { setTimeout as sleep } from 'node:timers/promises';
import { unavailable } from '../../platform/errors.ts';
import { callToken, type Scripts } from '../../platform/scripts.ts';
import { journalProfile } from '../miners/profile.ts';
import { formerHomeOf, homeOf, type Layout, type Layouts } from './layout.ts';

/** A mover that has not brought a miner in for this long is taken for dead, and the next one goes on from there. */
const TOKEN_MS = 2_000;
/** Longer than a dead mover's token, so that whoever asks for its miner gets an answer. */
const WAIT_MS = 4_000;
const BACKOFF_MS = { first: 5, most: 200 };
const COPY_ATTEMPTS = 5;

/** What move_out says of a miner, as far as it is not just handed on. */
interface MovingState {
  readonly fields?: readonly string[];
  readonly journaled?: boolean;
  /** The layout in which it was taken out. */
  readonly layout: string;
}

/**
 * Brings miners, and what goes by itself, from a former home to the home of a layout. Each step may be repeated, and whoever comes next
 * finishes what a mover that died has left, so nothing is lost and nothing is there twice.
 */
export class Mover {
  readonly #scripts: Scripts;
  readonly #layouts: Layouts;

  constructor(scripts: Scripts, layouts: Layouts) {
    this.#scripts = scripts;
    this.#layouts = layouts;
  }

  /**
   * Afterwards nothing of the miner is anywhere but at home.
   * @returns whether there was something to move
   * @throws LayoutChanged; AppError `unavailable` when another mover does not end; what Redis throws
   */
  async bring(layout: Layout, minerId: string): Promise<boolean> {
    const former = formerHomeOf(layout, minerId);
    if (former === undefined) return false;
    const left = await this.#moveFrom(layout, former, minerId, 'any');
    // Taken out of what is its home again, before the direction was turned round; unless it had arrived, and left from there.
    const stranded = await this.#moveFrom(layout, homeOf(layout, minerId), minerId, 'taken_out', left.came);
    return left.moved || stranded.moved;
  }

  /**
   * Brings the plan of a job, or a reservation that holds no place of a miner.
   * @param name `job:<id>` or `reservation:<id>`
   * @returns false when there was none, or it goes with its miner
   */
  async bringEntry(layout: Layout, name: string, from: number, to: number): Promise<boolean> {
    for (let attempt = 0; attempt < COPY_ATTEMPTS; attempt++) {
      const out = await this.#scripts.run('registry/copy_out', this.#layouts.pin(layout, from), [name]);
      if (out[0] !== 'ok') return false;
      const [ttlMs, state, fields] = out.slice(1) as [number, string, string[]];
      await this.#scripts.run('registry/copy_in', this.#layouts.pin(layout, to), [
        name,
        ttlMs,
        state,
        ...fields,
      ]);
      const done = await this.#scripts.run('registry/copy_done', this.#layouts.pin(layout, from), [
        name,
        state,
      ]);
      if (done[0] === 'ok') return true;
    }
    throw unavailable(name);
  }

  async #moveFrom(
    layout: Layout,
    from: number,
    minerId: string,
    which: 'any' | 'taken_out',
    came = '',
  ): Promise<{ moved: boolean; came: string }> {
    const token = callToken();
    const deadline = performance.now() + WAIT_MS;
    for (let waitMs = BACKOFF_MS.first; ; waitMs = Math.min(BACKOFF_MS.most, waitMs * 2)) {
      const out = await this.#scripts.run('registry/move_out', this.#layouts.pin(layout, from), [
        minerId,
        token,
        TOKEN_MS,
        which,
      ]);
      if (out[0] === 'gone') return { moved: false, came: out[1] as string };
      if (out[0] === 'taken') {
        const [state, untilMs] = out.slice(1) as [string, string];
        const moved = await this.#putIn(layout, from, minerId, token, state, untilMs, came);
        if (moved !== 'late') return { moved: moved === 'ok', came };
      }
      if (performance.now() > deadline) throw unavailable('this miner, which is on its way,');
      await sleep(waitMs * (0.5 + Math.random()));
    }
  }

  /** @returns `late` when the token ended meanwhile, `there` when it had come before */
  async #putIn(
    layout: Layout,
    from: number,
    minerId: string,
    token: string,
    state: string,
    untilMs: string,
    came: string,
  ): Promise<string> {
    const { fields, journaled, layout: takenIn } = JSON.parse(state) as MovingState;
    const home = this.#layouts.pin(layout, homeOf(layout, minerId));
    let outcome = 'there';
    if (takenIn !== came) {
      const profile = fields !== undefined && journaled === true ? journalProfile(minerId, fields) : '';
      const put = await this.#scripts.run('registry/move_in', home, [minerId, state, untilMs, profile]);
      outcome = put[0];
      if (outcome === 'late') return outcome;
    }
    for (const shard of [this.#layouts.pin(layout, from), home]) {
      await this.#scripts.run('registry/move_done', shard, [minerId, token]);
    }
    return outcome;
  }
}
