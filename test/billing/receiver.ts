import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Harness } from '../support/harness.ts';
import type { TestProcess } from '../support/processes.ts';

export interface Accepted {
  readonly key: string;
  readonly body: Record<string, unknown>;
}

export interface Receiver {
  readonly url: string;
  /** The next `count` calls meet one of these each, in turn; see billing-server.ts. */
  misbehave(kinds: readonly string[], count: number): void;
  /** Every record in the order it was accepted in. */
  accepted(): Accepted[];
  /** Every call, in the order they came in. */
  arrived(): { key: string; authorization: string; path: string }[];
  kill(): Promise<void>;
  /** Starts it again, on the same port and ledger, whenever it dies, until the returned function is called. */
  keepAlive(): () => Promise<void>;
}

/** Starts billing-server.ts. */
export async function startReceiver(h: Harness): Promise<Receiver> {
  const folder = mkdtempSync(join(tmpdir(), 'poolhub-billing-'));
  h.cleanup(() => rmSync(folder, { recursive: true }));
  const LEDGER = join(folder, 'ledger');
  const MISCHIEF = join(folder, 'mischief');
  const start = (port: string) =>
    h.startProcess('test/billing/billing-server.ts', {
      env: { LEDGER, MISCHIEF, PORT: port },
      ready: /listening on (\d+)/,
    });
  let running: TestProcess = await start('0');
  const port = String(running.ready[1]);
  const events = () =>
    existsSync(LEDGER)
      ? readFileSync(LEDGER, 'utf8')
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line))
      : [];
  return {
    url: `http://127.0.0.1:${port}`,
    misbehave: (kinds, left) => writeFileSync(MISCHIEF, JSON.stringify({ kinds, left })),
    accepted: () => events().filter(({ event }) => event === 'accepted'),
    arrived: () => events().filter(({ event }) => event === 'arrived'),
    async kill() {
      running.signal('SIGKILL');
      await running.exited;
    },
    keepAlive() {
      const wish = new AbortController();
      const unwanted = once(wish.signal, 'abort');
      const watch = (async () => {
        for (;;) {
          await Promise.race([running.exited, unwanted]);
          if (wish.signal.aborted) return;
          running = await start(port);
        }
      })();
      return async () => {
        wish.abort();
        await watch;
      };
    },
  };
}
