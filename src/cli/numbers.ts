import { UsageError } from './errors.ts';

interface Range {
  readonly min: number;
  readonly max: number;
}

/** Reads an option as a whole number. @throws UsageError naming the option */
export function wholeOption(name: string, text: string, { min, max }: Range): number {
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`--${name} must be a whole number from ${min} to ${max}`);
}

/** Reads an option as a number. @throws UsageError naming the option */
export function numberOption(name: string, text: string, { min, max }: Range): number {
  const value = /^-?\d{1,15}(\.\d{1,15})?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`--${name} must be a number from ${min} to ${max}`);
}
