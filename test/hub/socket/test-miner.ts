import { type ClientOptions, WebSocket } from 'ws';
import type { RunningHub } from '../../../src/bin/hub.ts';
import type { CommandFrame, ServerFrame } from '../../../src/hub/miners/socket-frames.ts';
import type { Harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';

type Ack = Extract<ServerFrame, { type: 'ack' }>;
type ErrorAnswer = Extract<ServerFrame, { type: 'error' }>;

interface ConnectOptions extends ClientOptions {
  query?: string;
  protocols?: string[];
}

/** The miner's end of a socket: everything that came, and how it ended. */
export class TestMiner {
  readonly socket: WebSocket;
  readonly frames: ServerFrame[] = [];
  ended: { code: number; reason: string } | undefined;
  #stamp = 0;

  private constructor(url: string, { query = '', protocols, ...options }: ConnectOptions) {
    this.socket = new WebSocket(
      `${url.replace('http', 'ws')}/v1/miners/heartbeat${query}`,
      protocols,
      options,
    );
    this.socket.on('message', (data) => this.frames.push(JSON.parse(String(data))));
    this.socket.on('close', (code, reason) => {
      this.ended = { code, reason: String(reason) };
    });
    this.socket.on('error', () => {});
  }

  /** Opens a socket with a session token in the query. */
  static connect(h: Harness, hub: Pick<RunningHub, 'url'>, token: string): Promise<TestMiner> {
    return TestMiner.connectWith(h, hub, { query: `?session_token=${token}` });
  }

  /** @throws Error when the handshake is refused */
  static async connectWith(
    h: Harness,
    hub: Pick<RunningHub, 'url'>,
    options: ConnectOptions,
  ): Promise<TestMiner> {
    const miner = new TestMiner(hub.url, options);
    h.cleanup(() => miner.socket.terminate());
    await new Promise<void>((resolve, reject) => {
      miner.socket.once('open', resolve);
      miner.socket.once('error', reject);
    });
    return miner;
  }

  send(payload: unknown): void {
    this.socket.send(JSON.stringify(payload));
  }

  /** Beats, and waits for the answer to just this heartbeat. */
  async beat(payload: Record<string, unknown> = {}): Promise<Ack> {
    this.#stamp += 1;
    const ts = this.#stamp;
    this.send({ ts, ...payload });
    return waitFor(() => this.frames.find((frame): frame is Ack => frame.type === 'ack' && frame.ts === ts), {
      what: 'the ack of a heartbeat',
    });
  }

  get commands(): CommandFrame[] {
    return this.frames.filter((frame) => frame.type === 'command');
  }

  get errors(): ErrorAnswer['error'][] {
    return this.frames.filter((frame) => frame.type === 'error').map((frame) => frame.error);
  }

  /** How the hub (or the network) ended the socket. */
  end(): Promise<{ code: number; reason: string }> {
    return waitFor(() => this.ended, { what: 'the socket to end' });
  }
}
