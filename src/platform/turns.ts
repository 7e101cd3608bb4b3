/** Work under one key runs one after the other, in the order of arrival; other keys are not held up. */
export class Turns {
  readonly #tails = new Map<string, Promise<void>>();

  /**
   * Waits for its turn, at most `budgetMs`, then runs `work` with the milliseconds that are left.
   * @returns undefined when the turn did not come in time: then `work` was not run
   */
  async take<T>(key: string, budgetMs: number, work: (leftMs: number) => Promise<T>): Promise<T | undefined> {
    const deadline = performance.now() + budgetMs;
    const before = this.#tails.get(key);
    let done = () => {};
    const mine = new Promise<void>((resolve) => {
      done = resolve;
    });
    const tail = before === undefined ? mine : before.then(() => mine);
    this.#tails.set(key, tail);
    try {
      if (before !== undefined && !(await settlesWithin(before, budgetMs))) return undefined;
      return await work(Math.max(0, deadline - performance.now()));
    } finally {
      done();
      if (this.#tails.get(key) === tail) void tail.then(() => this.#forget(key, tail));
    }
  }

  #forget(key: string, tail: Promise<void>): void {
    if (this.#tails.get(key) === tail) this.#tails.delete(key);
  }
}

async function settlesWithin(work: Promise<void>, timeoutMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await Promise.race([work.then(() => true as const), late]);
  } finally {
    clearTimeout(timer);
  }
}
