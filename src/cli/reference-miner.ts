import type { HubClient } from '../sdk/hub-client.ts';
import { MinerSession } from '../sdk/miner-session.ts';
import type { HeartbeatFrame, PendingCommand, RegisterRequest } from '../sdk/types.ts';

export interface ReferenceMinerOptions {
  readonly client: HubClient;
  readonly profile: RegisterRequest;
  readonly transport: 'ws' | 'http';
  /** Milliseconds between heartbeats, instead of what the server asks for. */
  readonly intervalMs?: number | undefined;
  /** Readings beside the load: latency, temperature, memory. */
  readonly sensors?: () => HeartbeatFrame;
  /** Jobs from elsewhere, beside those of takeJob. */
  readonly load?: () => number;
}

/** A miner as a program of one's own would be: it keeps a session, counts its jobs, and does what the hub's commands say. */
export class ReferenceMiner {
  readonly session: MinerSession;
  /** From the hub's command set_price_cap: tokens per 1,000 s; the hub holds the price under it by itself. */
  priceCap: string | null = null;
  #profile: RegisterRequest;
  #jobs = 0;
  #draining = false;

  constructor({ sensors, load, ...options }: ReferenceMinerOptions) {
    this.#profile = options.profile;
    this.session = new MinerSession({
      ...options,
      profile: () => this.#profile,
      readings: () => {
        const jobs = this.#jobs + (load?.() ?? 0);
        return { ...sensors?.(), queue_len: jobs, current_jobs: jobs };
      },
      onCommand: (command) => this.#obey(command),
    });
  }

  get id(): string {
    return this.#profile.miner_id;
  }

  get jobs(): number {
    return this.#jobs;
  }

  /** True when it takes no new jobs. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Takes a job, unless it drains. */
  takeJob(): boolean {
    if (this.#draining) return false;
    this.startJob();
    return true;
  }

  /** Counts a job that it was given. */
  startJob(): void {
    this.#jobs += 1;
    this.session.beatSoon();
  }

  endJob(): void {
    this.#jobs -= 1;
    this.session.beatSoon();
  }

  /** Tells the hub that it takes no new jobs. */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.session.update({ draining: true });
  }

  /** Commands of other names are somebody's own: they are acknowledged, and whoever listens to the session's events may act on them. */
  async #obey({ name, args }: PendingCommand): Promise<void> {
    switch (name) {
      case 'update_tags': {
        const tags = args.tags as string[];
        await this.session.update({ tags });
        this.#profile = { ...this.#profile, tags };
        return;
      }
      case 'set_price_cap':
        this.priceCap = args.cap as string | null;
        return;
      case 'drain':
        this.#draining = true;
        return;
      case 'resume':
        this.#draining = false;
        return;
    }
  }
}
