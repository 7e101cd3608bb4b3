/** An answer serves everybody who asks within this time. */
const FRESH_MS = 1000;

/** Shares the answers of a probe, so that many watchers cost no more than one. A failure is not kept. */
export function sharedProbe<T>(probe: () => Promise<T>, freshMs = FRESH_MS): () => Promise<T> {
  let latest: Promise<T> | undefined;
  let startedMs = 0;
  return () => {
    if (latest === undefined || performance.now() - startedMs > freshMs) {
      startedMs = performance.now();
      latest = probe();
      latest.catch(() => {
        latest = undefined;
      });
    }
    return latest;
  };
}
