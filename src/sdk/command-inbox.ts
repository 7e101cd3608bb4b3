import type { PendingCommand } from './types.ts';

/** A heartbeat acknowledges at most this many commands. */
const MAX_ACKS = 64;

/** Ids remembered so that a command that comes again is only acknowledged again; more than the hub lets wait. */
const MAX_REMEMBERED = 2_000;

export interface CommandInboxOptions {
  readonly handle: (command: PendingCommand) => void | Promise<void>;
  /** Called when there is something new to acknowledge. */
  readonly onReady: () => void;
  readonly onFailed: (command: PendingCommand, error: unknown) => void;
}

/**
 * Turns the hub's at-least-once delivery into one run of each command, in the order of arrival. A command whose handler throws is not
 * acknowledged, so the hub sends it again.
 */
export class CommandInbox {
  readonly #options: CommandInboxOptions;
  readonly #known = new Set<string>();
  readonly #running = new Set<string>();
  readonly #acks = new Set<string>();
  #last: Promise<void> = Promise.resolve();

  constructor(options: CommandInboxOptions) {
    this.#options = options;
  }

  /** Takes a command as it came. */
  take(command: PendingCommand): void {
    if (this.#acks.has(command.id) || this.#running.has(command.id)) return;
    if (this.#known.has(command.id)) {
      this.#acknowledge(command.id);
      return;
    }
    this.#remember(command.id);
    this.#running.add(command.id);
    this.#last = this.#last.then(() => this.#run(command));
  }

  /** Ids for the next heartbeat. They stay until `acknowledged` says that it arrived. */
  acks(): string[] {
    return [...this.#acks].slice(0, MAX_ACKS);
  }

  acknowledged(ids: readonly string[]): void {
    for (const id of ids) this.#acks.delete(id);
  }

  async #run(command: PendingCommand): Promise<void> {
    try {
      await this.#options.handle(command);
      this.#acknowledge(command.id);
    } catch (error) {
      this.#known.delete(command.id);
      this.#options.onFailed(command, error);
    } finally {
      this.#running.delete(command.id);
    }
  }

  #acknowledge(id: string): void {
    this.#acks.add(id);
    this.#options.onReady();
  }

  #remember(id: string): void {
    this.#known.add(id);
    if (this.#known.size <= MAX_REMEMBERED) return;
    const [oldest] = this.#known;
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}
