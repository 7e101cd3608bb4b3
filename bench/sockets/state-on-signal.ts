/**
 * Loaded into the hub under measurement, before the hub itself: on SIGUSR2 it collects garbage and prints what the process holds. A second
 * collection, a moment later, takes what the first one's finalizers let go; and V8 gives pages back a moment after it has emptied them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { HUB_STATE_SIGNAL, HUB_STATE_WORD, type HubState } from './hub-state.ts';

const SETTLE_MS = 250;

process.on(HUB_STATE_SIGNAL, async () => {
  const { rss: rss_before } = process.memoryUsage();
  globalThis.gc?.();
  await sleep(SETTLE_MS);
  globalThis.gc?.();
  await sleep(SETTLE_MS);
  const { rss, heapUsed, external } = process.memoryUsage();
  const state: HubState = { rss_before, rss, heap: heapUsed, external };
  console.log(`${HUB_STATE_WORD} ${JSON.stringify(state)}`);
});
