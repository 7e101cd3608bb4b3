/** Lets so much work through at a time, the rest in the order of arrival. Who asks bounds how much may wait. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param places work under way at a time */
  constructor(places: number) {
    this.#free = places;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      // The place goes to the next one directly: nobody who comes in between takes it.
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
