import type { WriteStream } from 'node:tty';

/** Where progress is drawn: a terminal, or a pipe or file. */
export type ProgressStream = Pick<WriteStream, 'write'> & {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
};

/** What to show now. */
export interface ProgressView {
  /** All of it in one line, for a pipe or file. */
  line(): string;
  /** The same for a terminal, the most important first. */
  screen(): readonly string[];
}

const SCREEN_EVERY_MS = 500;
const LINE_EVERY_MS = 5_000;
const DEFAULT_COLUMNS = 80;
const DEFAULT_ROWS = 24;

/** Shows what goes on until it is stopped: on a terminal lines that change in place, elsewhere a line every 5 seconds. */
export class Progress {
  readonly #stream: ProgressStream;
  readonly #view: ProgressView;
  readonly #timer: NodeJS.Timeout;
  #drawn = 0;

  constructor(stream: ProgressStream, view: ProgressView) {
    this.#stream = stream;
    this.#view = view;
    this.#timer = setInterval(() => this.#show(), stream.isTTY ? SCREEN_EVERY_MS : LINE_EVERY_MS);
    if (stream.isTTY) this.#show();
  }

  /** Shows the last state and leaves it standing. */
  stop(): void {
    clearInterval(this.#timer);
    this.#show();
  }

  #show(): void {
    if (!this.#stream.isTTY) {
      this.#stream.write(`${this.#view.line()}\n`);
      return;
    }
    // A terminal that does not know its size says 0. What does not fit would scroll, and be drawn again below itself.
    const lines = this.#view.screen().slice(0, (this.#stream.rows || DEFAULT_ROWS) - 1);
    const width = (this.#stream.columns || DEFAULT_COLUMNS) - 1;
    // Up to where the last drawing began; each line is cut, because a wrapped one would make the next drawing start too low.
    const back = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : '';
    const text = lines.map((line) => `\r${[...line].slice(0, width).join('')}\x1b[K\n`).join('');
    this.#stream.write(`${back}${text}\x1b[J`);
    this.#drawn = lines.length;
  }
}
