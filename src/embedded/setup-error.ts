/** A start that cannot go on for a reason the user can act on: the message is one line that says what to do. */
export class SetupError extends Error {
  override readonly name = 'SetupError';
}
