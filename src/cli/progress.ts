import type { WriteStream } from 'node:tty';

/** Where progress is drawn: a terminal, or a pipe or file. */
export type ProgressStream = Pick<WriteStream, 'write'> & {
  readonly isTTY?: boolean;
  readonly columns?: number;
};

const SCREEN_EVERY_MS = 500;
const LINE_EVERY_MS = 5_000;
const DEFAULT_COLUMNS = 80;

/**
 * Shows what goes on until it is stopped: a terminal sees the lines change in place, anything else gets the first of them
 * every 5 seconds.
 */
export class Progress {
  readonly #stream: ProgressStream;
  readonly #lines: () => readonly string[];
  readonly #timer: NodeJS.Timeout;
  #drawn = 0;

  /** @param lines what to show now, the most important first */
  constructor(stream: ProgressStream, lines: () => readonly string[]) {
    this.#stream = stream;
    this.#lines = lines;
    this.#timer = setInterval(() => this.#show(), stream.isTTY ? SCREEN_EVERY_MS : LINE_EVERY_MS);
    if (stream.isTTY) this.#show();
  }

  /** Shows the last state and leaves it standing. */
  stop(): void {
    clearInterval(this.#timer);
    this.#show();
  }

  #show(): void {
    const lines = this.#lines();
    if (!this.#stream.isTTY) {
      this.#stream.write(`${lines[0] ?? ''}\n`);
      return;
    }
    const width = (this.#stream.columns ?? DEFAULT_COLUMNS) - 1;
    // Up to where the last drawing began; each line is cut, because a wrapped one would make the next drawing start too low.
    const back = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : '';
    const text = lines.map((line) => `\r${[...line].slice(0, width).join('')}\x1b[K\n`).join('');
    this.#stream.write(`${back}${text}\x1b[J`);
    this.#drawn = lines.length;
  }
}
