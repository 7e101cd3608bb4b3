import { Agent, type IncomingMessage, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { fullJitterMs } from '../../src/sdk/backoff.ts';

const RETRY = { baseMs: 250, capMs: 2000 };
/** Some twenty seconds. */
const MAX_ATTEMPTS = 20;

/** Answers after which the same call may succeed. */
const MAY_PASS = new Set([429, 502, 503, 504]);

interface Answer {
  /** 0 when there was none. */
  readonly status: number;
  readonly text: string;
}

/**
 * Posts JSON over kept connections. In place of the SDK, whose `fetch` takes three times the processor time: with a thousand miners in one process
 * the benchmark would measure itself.
 */
export class Caller {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  readonly #url: URL;
  readonly #timeoutMs: number;
  #closed = false;
  /** Calls that were not answered well, each time. */
  failed = 0;

  /** @param timeoutMs of a call, beside what the server holds it for */
  constructor(url: string, timeoutMs: number) {
    this.#url = new URL(url);
    this.#timeoutMs = timeoutMs;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Ends every call. */
  close(): void {
    this.#closed = true;
    this.#agent.destroy();
  }

  /**
   * Calls until there is an answer that would be no other the next time, patience runs out, or this is closed.
   * @returns the text of a good answer; undefined when it is a refusal, or there is none any more
   */
  async post(
    path: string,
    headers: Readonly<Record<string, string>>,
    body: unknown,
    heldMs = 0,
  ): Promise<string | undefined> {
    const text = JSON.stringify(body);
    for (let attempt = 0; attempt < MAX_ATTEMPTS && !this.#closed; attempt += 1) {
      const answer = await this.#once(path, headers, text, heldMs);
      if (answer.status >= 200 && answer.status < 300) return answer.text;
      if (this.#closed) break;
      this.failed += 1;
      if (answer.status !== 0 && !MAY_PASS.has(answer.status)) break;
      await sleep(fullJitterMs(attempt, RETRY));
    }
    return undefined;
  }

  #once(
    path: string,
    headers: Readonly<Record<string, string>>,
    text: string,
    heldMs: number,
  ): Promise<Answer> {
    return new Promise((resolve) => {
      const none = () => resolve({ status: 0, text: '' });
      const options = {
        agent: this.#agent,
        host: this.#url.hostname,
        port: this.#url.port,
        path,
        method: 'POST',
        headers: {
          ...headers,
          'Content-Type': 'application/json',
          'Content-Length': Buffer.byteLength(text),
        },
        timeout: this.#timeoutMs + heldMs,
      };
      const call = request(options, (response: IncomingMessage) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
        );
        response.on('error', none);
        response.on('aborted', none);
      });
      call.on('error', none);
      call.on('timeout', () => call.destroy());
      call.end(text);
    });
  }
}
