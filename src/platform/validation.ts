import type { Context, MiddlewareHandler } from 'hono';
import { resolver, uniqueSymbol, validator } from 'hono-openapi';
import * as v from 'valibot';
import type { AppEnv } from './app-env.ts';
import { AppError, invalid } from './errors.ts';
import { withAliases } from './openapi.ts';

/** Levels of arrays and objects in a request body; ours need 5. */
const MAX_JSON_DEPTH = 32;

type JsonInput<S extends v.GenericSchema> = {
  in: { json: v.InferInput<S> };
  out: { json: v.InferOutput<S> };
};

/** JSON is UTF-8 (RFC 8259): what is not must not be read as something else, for two ids could become one. */
const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * The JSON body, checked against a schema, for `c.req.valid('json')` and for OpenAPI. A body that is no JSON (or nested too deep to be
 * meant well) is 400, one that does not fit is 422. The Content-Type is not asked for: every body here is JSON.
 */
export function jsonBody<S extends v.GenericSchema>(
  schema: S,
): MiddlewareHandler<AppEnv, string, JsonInput<S>> {
  const middleware: MiddlewareHandler<AppEnv, string, JsonInput<S>> = async (c, next) => {
    const parsed = v.safeParse(schema, parseJson(await bodyText(c)));
    if (!parsed.success) throw invalid(parsed.issues);
    c.req.addValidatedData('json', parsed.output as object);
    await next();
  };
  return Object.assign(middleware, {
    [uniqueSymbol]: { target: 'json', ...resolver(schema, { options: { overrideSchema: withAliases } }) },
  });
}

/** The query, checked against a schema, for `c.req.valid('query')` and for OpenAPI. */
export function query<S extends v.GenericSchema>(schema: S) {
  return validator<S, 'query', AppEnv, string>('query', schema, refuse);
}

/**
 * The path parameters, checked against a schema, for `c.req.valid('param')` and for OpenAPI.
 * @param check throws for a result that is no success; else what does not fit is 422
 */
export function pathParams<S extends v.GenericSchema>(schema: S, check: typeof refuse = refuse) {
  return validator<S, 'param', AppEnv, string>('param', schema, check);
}

/**
 * Parses JSON text from a stranger.
 * @throws AppError `bad_json`; the parser's own message is not passed on, because it quotes the text
 */
export function parseJson(text: string): unknown {
  if (nestsTooDeep(text))
    throw new AppError('bad_json', `the body nests deeper than ${MAX_JSON_DEPTH} levels`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new AppError('bad_json', 'the body is not valid JSON', { cause });
  }
}

/**
 * The body as text.
 * @throws AppError `bad_json` for one that is not UTF-8
 */
export async function bodyText(c: Context): Promise<string> {
  const bytes = await c.req.arrayBuffer();
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    throw new AppError('bad_json', 'the body is not UTF-8', { cause });
  }
}

/** Counts brackets outside of strings; that is enough to bound the depth of what JSON.parse would build. */
function nestsTooDeep(text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i];
    if (inString) {
      if (char === '\\') i += 1;
      else if (char === '"') inString = false;
    } else if (char === '"') inString = true;
    else if (char === '{' || char === '[') {
      depth += 1;
      if (depth > MAX_JSON_DEPTH) return true;
    } else if (char === '}' || char === ']') depth -= 1;
  }
  return false;
}

/** Stands in for hono-openapi's own refusal, which echoes what was received. */
function refuse(result: { success: boolean; error?: readonly unknown[] }): void {
  if (!result.success) throw invalid((result.error ?? []) as readonly v.BaseIssue<unknown>[]);
}
