/** The command was called in a way it does not understand: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command could not do its work for a reason that one line tells: exit code 1. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
}
