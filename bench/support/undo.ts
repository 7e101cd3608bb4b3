/** What a run has to take back at its end, in the order in which it was done. */
export type Undo = Array<() => unknown>;

/** Takes back what was done last first, all of it, then throws the first error. */
export async function undoAll(undo: Undo): Promise<void> {
  const errors: unknown[] = [];
  for (let work = undo.pop(); work !== undefined; work = undo.pop()) {
    try {
      await work();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}
