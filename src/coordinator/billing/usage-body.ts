import type { Context, MiddlewareHandler } from 'hono';
import { resolver, uniqueSymbol } from 'hono-openapi';
import * as v from 'valibot';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError, invalid } from '../../platform/errors.ts';
import { parseJson } from '../../platform/validation.ts';
import {
  isJsonObject,
  JsonNumber,
  JsonTextError,
  parseJsonText,
  writeJsonText,
} from '../receipts/json-text.ts';
import { decimalOfNumber } from './decimals.ts';
import { UsageRequest } from './schema.ts';

/** A usage report as it is checked, and the text of its metadata as it came. */
export interface UsageBody {
  readonly request: v.InferOutput<typeof UsageRequest>;
  readonly metadataText: string | null;
}

const DECIMALS = ['quantity', 'unit_price', 'total_amount'];

/** Tells OpenAPI of the body that `readUsage` reads. */
export const usageBody: MiddlewareHandler<AppEnv> = Object.assign(
  async (_: Context<AppEnv>, next: () => Promise<void>) => next(),
  { [uniqueSymbol]: { target: 'json', ...resolver(UsageRequest) } },
);

/**
 * Reads a usage report. Decimals may be numbers or strings; of a number its text counts, because as a double 123456789.12345678
 * would lose its last digits.
 * @throws AppError `bad_json`, `invalid`
 */
export function readUsage(text: string): UsageBody {
  const node = parseText(text);
  if (!isJsonObject(node)) throw invalidBody(parseJson(text));
  const members = new Map(node);
  for (const name of DECIMALS) {
    const value = members.get(name);
    // What does not fit is left as the number it is, for the schema to refuse.
    if (value instanceof JsonNumber) members.set(name, decimalOfNumber(value.lexeme) ?? value);
  }
  const parsed = v.safeParse(UsageRequest, parseJson(writeJsonText(members)));
  if (!parsed.success) throw invalid(parsed.issues);
  const metadata = members.get('metadata') ?? null;
  return { request: parsed.output, metadataText: metadata === null ? null : writeJsonText(metadata) };
}

function parseText(text: string) {
  try {
    return parseJsonText(text);
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error;
    throw new AppError('bad_json', `the body is not JSON: ${error.message}`, { cause: error });
  }
}

function invalidBody(value: unknown): AppError {
  return invalid(v.safeParse(UsageRequest, value).issues ?? []);
}
