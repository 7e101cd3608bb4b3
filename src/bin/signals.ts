const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A Ctrl-C arrives twice under npm: from the terminal, and again from npm. */
const SAME_REQUEST_MS = 1_000;

/**
 * Calls `stop` at the first request to end, and exits with `exitCode(signal)` when it is done, or with 1 when it failed.
 * A second request ends the process at once; what it started privately stops by itself then.
 */
export function stopOnSignals(stop: () => Promise<void>, exitCode: (signal: NodeJS.Signals) => number): void {
  let askedAt: number | undefined;
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (askedAt !== undefined) {
        if (performance.now() - askedAt > SAME_REQUEST_MS) process.exit(1);
        return;
      }
      askedAt = performance.now();
      stop().then(
        () => process.exit(exitCode(signal)),
        (error) => {
          console.error(error);
          process.exit(1);
        },
      );
    });
  }
}
