import { pathToFileURL } from 'node:url';
import type { Program } from '../../src/embedded/supervise.ts';
import { entryArguments } from '../../test/support/entry.ts';
import { waitFor } from '../../test/support/wait-for.ts';

export const HUB_STATE_SIGNAL = 'SIGUSR2';
/** Starts the line with the state. */
export const HUB_STATE_WORD = 'hub-state';

const TIMEOUT_MS = 30_000;

/** What the hub process holds, bytes. */
export interface HubState {
  /** Resident memory before collecting garbage, and after. */
  readonly rss_before: number;
  readonly rss: number;
  /** Of the JavaScript heap, in use; and what hangs on it outside. */
  readonly heap: number;
  readonly external: number;
}

/** What Node needs so that a hub tells its state. */
export const STATE_ARGUMENTS: readonly string[] = [
  '--expose-gc',
  '--import',
  ...entryArguments('bench/sockets/state-on-signal.ts')
    .slice(-1)
    .map((path) => pathToFileURL(path).href),
];

/** Has a hub that was started with STATE_ARGUMENTS collect its garbage. */
export async function settledState(hub: Program): Promise<HubState> {
  const told = () =>
    hub
      .output()
      .split('\n')
      .filter((line) => line.startsWith(HUB_STATE_WORD));
  const before = told().length;
  hub.signal(HUB_STATE_SIGNAL);
  const line = await waitFor(() => told()[before], {
    timeoutMs: TIMEOUT_MS,
    what: 'the hub tells its state',
  });
  return JSON.parse(line.slice(HUB_STATE_WORD.length)) as HubState;
}
