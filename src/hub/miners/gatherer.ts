/** Something on its way to a shard, and who waits for the answer. */
interface Waiting<Item, Answer> {
  readonly item: Item;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

/** The traffic of one shard. */
interface Lane<Item, Answer> {
  waiting: Waiting<Item, Answer>[];
  /** Batches that have no answer yet. */
  underWay: number;
}

export interface GathererOptions {
  /** From one departure to the next, ms; what comes after a longer rest waits for the others of its tick only. */
  readonly everyMs: number;
  /** Items that travel in one batch, at most. */
  readonly perBatch: number;
  /** Batches of one shard under way at a time: what else uses the connection need not wait for all that has come. */
  readonly perShard: number;
}

/**
 * Has things that come at about the same time share a call: gathers them by shard for at most `everyMs`, then sends the batches of all shards
 * in one tick, so that those for one server share a write. What waits is bounded by who waits for it.
 */
export class Gatherer<Item, Answer> {
  readonly #send: (shard: number, items: Item[]) => Promise<readonly (Answer | Error)[]>;
  readonly #options: GathererOptions;
  readonly #lanes = new Map<number, Lane<Item, Answer>>();
  #leaving = false;
  #leftAtMs = Number.NEGATIVE_INFINITY;

  /** @param send answers each item, in order; an Error is that item's alone */
  constructor(
    send: (shard: number, items: Item[]) => Promise<readonly (Answer | Error)[]>,
    options: GathererOptions,
  ) {
    this.#send = send;
    this.#options = options;
  }

  /** Resolves with the answer to the item. Throws the item's own error, or what the batch that it was in, or waited behind, failed with. */
  add(shard: number, item: Item): Promise<Answer> {
    const lane = this.#lanes.get(shard) ?? { waiting: [], underWay: 0 };
    this.#lanes.set(shard, lane);
    return new Promise((resolve, reject) => {
      lane.waiting.push({ item, resolve, reject });
      this.#leaveSoon();
    });
  }

  #leaveSoon(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    const restMs = this.#leftAtMs + this.#options.everyMs - performance.now();
    if (restMs > 0) setTimeout(() => this.#leave(), restMs);
    else setImmediate(() => this.#leave());
  }

  #leave(): void {
    this.#leaving = false;
    this.#leftAtMs = performance.now();
    for (const [shard, lane] of this.#lanes) {
      while (lane.waiting.length > 0 && lane.underWay < this.#options.perShard)
        void this.#sendBatch(shard, lane);
    }
  }

  async #sendBatch(shard: number, lane: Lane<Item, Answer>): Promise<void> {
    const batch = lane.waiting.splice(0, this.#options.perBatch);
    lane.underWay += 1;
    try {
      const answers = await this.#send(
        shard,
        batch.map(({ item }) => item),
      );
      for (const [i, { resolve, reject }] of batch.entries()) {
        const answer = answers[i];
        if (answer instanceof Error) reject(answer);
        else resolve(answer as Answer);
      }
    } catch (error) {
      // The shard is away; what waits behind this batch would only wait as long again.
      for (const { reject } of [...batch, ...lane.waiting.splice(0)]) reject(error);
    } finally {
      lane.underWay -= 1;
      if (lane.waiting.length > 0) this.#leaveSoon();
    }
  }
}
