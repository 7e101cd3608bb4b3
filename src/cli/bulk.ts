/**
 * Does `work` for every item, `concurrency` at a time, in order of starting. The first failure stops the rest and is thrown; an abort
 * stops it without an error.
 */
export async function forEachLimited<T>(
  items: Iterable<T>,
  concurrency: number,
  signal: AbortSignal | undefined,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let failed = false;
  const lane = async () => {
    for (let next = iterator.next(); !next.done; next = iterator.next()) {
      if (failed || signal?.aborted) return;
      try {
        await work(next.value);
      } catch (error) {
        if (signal?.aborted) return;
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
}
