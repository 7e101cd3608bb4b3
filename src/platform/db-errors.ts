/** What an error of Postgres, or of the way to it, says about the next attempt. */
import postgres from 'postgres';
import { AppError, isConnectionError } from './errors.ts';

/** SQLSTATEs beside the connection errors after which the same statement may succeed later. */
const RETRYABLE_SQLSTATE = /^(08|53|57|58|25006|40001|40P01|55P03)/;

/** SQLSTATE classes for which the data is at fault: the same statement can never succeed. */
const DATA_SQLSTATE = /^(22|23)/;

const OUT_OF_RANGE_SQLSTATE = /^22003$/;

/** It cancels a slow statement, or has no connection left to give. */
const BUSY_SQLSTATE = /^(57014|53300)$/;

/**
 * Whether an error means "Postgres cannot do this now"; the same call may succeed later. Looks through
 * `cause`.
 */
export function isPostgresUnavailable(error: unknown): boolean {
  return isUnreachable(error) || matchesSqlState(error, RETRYABLE_SQLSTATE);
}

/**
 * Whether Postgres refused the values themselves (out of range, a broken constraint): a retry cannot help.
 */
export function isDataError(error: unknown): boolean {
  return matchesSqlState(error, DATA_SQLSTATE);
}

/** Whether a number is too large for where it is to be stored. */
export function isOutOfRange(error: unknown): boolean {
  return matchesSqlState(error, OUT_OF_RANGE_SQLSTATE);
}

/** Whether a row was refused because another one has its unique key: any, or that of this index. */
export function isUniqueViolation(error: unknown, index?: string): boolean {
  const cause = postgresErrorOf(error);
  return cause?.code === '23505' && (index === undefined || cause.constraint_name === index);
}

/** Whether no server answered. */
export function isUnreachable(error: unknown): boolean {
  if (error instanceof AppError) return error.code === 'unavailable';
  return isConnectionError(error) && !isServerBusy(error);
}

/** Whether the server answered that it has too much to do: it is not away. */
export function isServerBusy(error: unknown): boolean {
  return matchesSqlState(error, BUSY_SQLSTATE);
}

function matchesSqlState(error: unknown, pattern: RegExp): boolean {
  const cause = postgresErrorOf(error);
  return cause !== undefined && pattern.test(cause.code);
}

function postgresErrorOf(error: unknown): postgres.PostgresError | undefined {
  for (let current = error; current instanceof Error; current = current.cause) {
    if (current instanceof postgres.PostgresError) return current;
  }
  return undefined;
}
