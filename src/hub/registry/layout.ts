import * as v from 'valibot';
import { shardOf } from '../../platform/keys.ts';
import type { Logger } from '../../platform/logger.ts';
import type { KnownLayout, LayoutSource, Scripts } from '../../platform/scripts.ts';

const LayoutText = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({
    /** Grows with every change. */
    version: v.number(),
    /** A miner is at home in shard `shardOf(id, shards)`; while miners move, those that have not yet been moved are. */
    shards: v.number(),
    /** While miners move: how many shards there will be, and the miners of the pool when it began. */
    moving: v.optional(v.object({ shards: v.number(), fleet: v.number() })),
  }),
);

/** How many shards there are, and whether miners are on their way to another number of them. */
export type Layout = v.InferOutput<typeof LayoutText>;

/** Who had begun to look through a shard that is gone finds it empty, and no error; then that is forgotten. */
const GONE_KEEP_MS = 2_000;

/** Older than any, so that it is written nowhere. */
const NO_LAYOUT = '{"version":0}';

/** Another layout came in between; the call has done nothing. */
export class LayoutChanged extends Error {}

interface LayoutsOptions {
  /** REDIS_SHARDS: of a registry that has no layout yet. */
  readonly shards: number;
  readonly log: Pick<Logger, 'warn' | 'info'>;
}

/**
 * The layout of the registry as this process knows it. Every shard holds the layout that it follows, and every script checks it
 * (platform/scripts.ts), so a process that knows another is told by its next call, and no call ever acts on a shard that its miner has left.
 * The layout of shard 0, which there always is, has the first word; a shard that holds an older one is brought up, and when shard 0 has lost
 * its own, the newest found elsewhere takes its place.
 */
export class Layouts implements LayoutSource {
  #known: (KnownLayout & { readonly layout: Layout }) | undefined;
  #reading: Promise<Layout> | undefined;
  readonly #scripts: Scripts;
  readonly #options: LayoutsOptions;

  constructor(scripts: Scripts, options: LayoutsOptions) {
    this.#scripts = scripts;
    this.#options = options;
    scripts.follow(this);
  }

  get known(): KnownLayout | undefined {
    return this.#known;
  }

  /** The layout known here; for what `Scripts.run` calls back. @throws Error before it was first read */
  get current(): Layout {
    if (this.#known === undefined) throw new Error('the layout was not read');
    return this.#known.layout;
  }

  /** The layout known here: that of the registry, or an older one, which the next call will find out. */
  async ready(): Promise<Layout> {
    return this.#known?.layout ?? (await this.refresh());
  }

  /**
   * Reads the layout of the registry; of a new one, writes that of these settings. A registry of several shards that has lost shard 0 is not new: this
   * process knows the layout, or shard 1 does. Callers at the same time share the answer.
   */
  refresh(): Promise<Layout> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<Layout> {
    let newest = this.#known?.text;
    if (newest === undefined && (await this.#held(0)) === '') newest = await this.#held(1);
    return this.#adopt(await this.#raise(0, newest || textOf({ version: 1, shards: this.#options.shards })));
  }

  async reconcile(shard: number, text: string): Promise<void> {
    const first = await this.refresh();
    if (shard === 0) return;
    if (text !== '' && v.parse(LayoutText, text).version > first.version) {
      this.#adopt(await this.#raise(0, text));
    } else {
      await this.#raise(shard, textOf(first), '', shard < shardCount(first) ? 0 : GONE_KEEP_MS);
    }
  }

  /**
   * Replaces the layout of the registry, and lets every shard of either know.
   * @returns false when it was not `expected` any more; then nothing has changed
   * @throws what Redis throws; the shards that were not reached are brought up by whoever calls them
   */
  async change(expected: Layout, next: Layout): Promise<boolean> {
    const held = await this.#raise(0, textOf(next), textOf(expected));
    const layout = this.#adopt(held);
    if (held !== textOf(next)) return false;
    const shards = Math.max(shardCount(expected), shardCount(layout));
    for (let shard = 1; shard < shards; shard++) await this.#raise(shard, held);
    return true;
  }

  /** For `Scripts.run`: a shard of this layout. The call throws LayoutChanged once another is known. */
  pin(layout: Layout, shard: number): () => number {
    return () => {
      this.check(layout);
      return shard;
    };
  }

  /** @throws LayoutChanged when another layout than this is known now; then what was found by this one may be wrong */
  check(layout: Layout): void {
    if (this.#known?.layout !== layout) throw new LayoutChanged('the shards have changed');
  }

  /** @returns the layout that a shard holds, '' for none */
  #held(shard: number): Promise<string> {
    return this.#raise(shard, NO_LAYOUT);
  }

  /** Writes a newer layout to a shard. @returns the layout that it holds then */
  async #raise(shard: number, text: string, expected = '', keepMs = 0): Promise<string> {
    const reply = await this.#scripts.run('registry/layout', shard, [text, expected, keepMs]);
    return reply[1] as string;
  }

  #adopt(text: string): Layout {
    if (this.#known?.text === text) return this.#known.layout;
    const layout = v.parse(LayoutText, text);
    const { shards, log } = this.#options;
    const before = this.#known?.layout;
    this.#known = {
      text,
      layout,
      constants: { shards: shardCount(layout), moving_fleet: layout.moving?.fleet ?? 0 },
    };
    if (before !== undefined) log.info({ layout }, 'the shards have changed');
    else if (layout.shards !== shards) {
      log.warn(
        { setting: shards, layout },
        'REDIS_SHARDS is for a new registry; this one has its own number',
      );
    }
    return layout;
  }
}

/** Shards that hold miners now: while they move, those of before and those to come. */
export function shardCount({ shards, moving }: Layout): number {
  return Math.max(shards, moving?.shards ?? 0);
}

/** Where a miner or job lives, or comes to live. */
export function homeOf({ shards, moving }: Layout, id: string): number {
  return shardOf(id, moving?.shards ?? shards);
}

/** Where a miner or job may still be instead of its home; undefined when nowhere else. */
export function formerHomeOf(layout: Layout, id: string): number | undefined {
  const former = shardOf(id, layout.shards);
  return former === homeOf(layout, id) ? undefined : former;
}

function textOf({ version, shards, moving }: Layout): string {
  return JSON.stringify({ version, shards, ...(moving === undefined ? {} : { moving }) });
}
