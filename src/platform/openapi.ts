import type { ConversionConfig, JsonSchema } from '@valibot/to-json-schema';
import type { Hono, MiddlewareHandler } from 'hono';
import { describeRoute, generateSpecs, resolver } from 'hono-openapi';
import * as v from 'valibot';
import type { AppEnv, Role } from './app-env.ts';
import { ERROR_STATUS, type ErrorCode } from './errors.ts';

/** Who may call: nobody in particular (empty), roles, the miner itself by its session or key, or holders of the coordinator's keys. */
export type Auth = readonly (Role | 'session' | 'miner_key' | KeyHolder)[];

type KeyHolder = 'client_key' | 'worker_key' | 'operator_key';

interface Operation {
  readonly summary: string;
  readonly tag: string;
  readonly auth: Auth;
  /** Body of each answer by status: JSON, one of the texts, or nothing. */
  readonly answers: Readonly<Record<number, v.GenericSchema | keyof typeof TEXTS | 'nothing'>>;
  /** What the headers mean that the call takes beside those of every call, by name. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Error codes beside those that every call with a body or a secret may answer. */
  readonly errors?: readonly ErrorCode[];
}

const TEXTS = { text: 'text/plain', page: 'text/html', events: 'text/event-stream' } as const;

interface ApiInfo {
  readonly title: string;
  readonly version: string;
  readonly description: string;
}

const ErrorBody = v.pipe(
  v.object({
    error: v.object({
      code: v.picklist(Object.keys(ERROR_STATUS) as ErrorCode[]),
      message: v.string(),
      request_id: v.string(),
      details: v.optional(v.array(v.object({ path: v.string(), message: v.string() }))),
    }),
  }),
  v.metadata({
    ref: 'Error',
    examples: [
      {
        error: {
          code: 'invalid',
          message: 'the request is not valid',
          request_id: '0f8f0c1e-6b1f-4a3e-9a43-1c8f7a0d2b11',
          details: [{ path: 'requirements.min_vram_gb', message: 'must be at least 0' }],
        },
      },
    ],
  }),
);

const SCHEMES = {
  coordinator: [{ CoordinatorSecret: [] }, { Bearer: [] }],
  admin: [{ AdminKey: [] }, { Bearer: [] }],
  session: [{ Bearer: [] }, {}],
  miner_key: [{ Bearer: [] }],
  client_key: [{ ApiKey: [] }, { Bearer: [] }],
  worker_key: [{ ApiKey: [] }, { Bearer: [] }],
  operator_key: [{ ApiKey: [] }, { Bearer: [] }],
} as const;

const BEARER = { Bearer: { type: 'http', scheme: 'bearer' } } as const;

/** How callers prove themselves at the hub, as OpenAPI says it. */
export const HUB_SECURITY = {
  CoordinatorSecret: { type: 'apiKey', in: 'header', name: 'X-Coordinator-Secret' },
  AdminKey: { type: 'apiKey', in: 'header', name: 'X-Admin-Key' },
  ...BEARER,
} as const;

/** The same for the coordinator. */
export const COORDINATOR_SECURITY = {
  ApiKey: { type: 'apiKey', in: 'header', name: 'X-Api-Key' },
  ...BEARER,
} as const;

/** Errors that any call may answer; those of its own are added by the operation. */
const COMMON_ERRORS: readonly ErrorCode[] = ['rate_limited', 'unavailable', 'internal'];

/** Answers that say when to come back. */
const RETRIED: ReadonlySet<ErrorCode> = new Set(['rate_limited', 'quota_exceeded', 'unavailable']);
const RETRY_AFTER = {
  'Retry-After': { description: 'seconds', required: true, schema: { type: 'integer', minimum: 1 } },
} as const;

/** Describes a route to OpenAPI. Stands first among the handlers of its route. */
export function operation({
  summary,
  tag,
  auth,
  answers,
  headers = {},
  errors = [],
}: Operation): MiddlewareHandler {
  const codes = [...new Set([...errors, ...authErrors(auth), ...(auth.length > 0 ? COMMON_ERRORS : [])])];
  const responses: NonNullable<Parameters<typeof describeRoute>[0]['responses']> = {};
  for (const status of new Set(codes.map((code) => ERROR_STATUS[code]))) {
    responses[status] = {
      description: codes.filter((code) => ERROR_STATUS[code] === status).join(' or '),
      ...(codes.some((code) => ERROR_STATUS[code] === status && RETRIED.has(code)) && {
        headers: RETRY_AFTER,
      }),
      content: { 'application/json': { schema: resolver(ErrorBody) } },
    };
  }
  for (const [status, schema] of Object.entries(answers)) {
    responses[status] = {
      description: Number(status) < 400 ? 'done' : 'not now',
      ...(schema !== 'nothing' && { content: contentOf(schema) }),
    };
  }
  return describeRoute({
    summary,
    tags: [tag],
    security: auth.flatMap((who): Record<string, string[]>[] =>
      SCHEMES[who].map((scheme) => ({ ...scheme }) as Record<string, string[]>),
    ),
    parameters: Object.entries(headers).map(([name, description]) => ({
      name,
      in: 'header',
      description,
      schema: { type: 'string' },
    })),
    responses,
  });
}

function contentOf(schema: v.GenericSchema | keyof typeof TEXTS) {
  return typeof schema === 'string'
    ? { [TEXTS[schema]]: { schema: { type: 'string' as const } } }
    : { 'application/json': { schema: resolver(schema) } };
}

/** Serves the document at /openapi.json. It is made at the first call, from the routes as they are then. */
export function openapiRoute(
  app: Hono<AppEnv>,
  info: ApiInfo,
  securitySchemes: typeof HUB_SECURITY | typeof COORDINATOR_SECURITY,
): void {
  let document: Promise<object> | undefined;
  app.get('/openapi.json', async (c) => {
    document ??= generateSpecs(app, {
      documentation: {
        info,
        components: { securitySchemes },
      },
      excludeStaticFile: false,
      defaultValidationErrorResponse: false,
    }).then(withBodyLimit);
    return c.json(await document);
  });
}

/** The limit of bodies stands before the routes: every call but a GET may meet it, also one that takes no body. */
function withBodyLimit(document: Awaited<ReturnType<typeof generateSpecs>>): object {
  const schema = { $ref: '#/components/schemas/Error' };
  const refusal = { description: 'too_large', content: { 'application/json': { schema } } };
  for (const { get: _, ...others } of Object.values(document.paths)) {
    for (const { responses } of Object.values(others) as { responses: Record<string, object> }[]) {
      responses[ERROR_STATUS.too_large] ??= refusal;
    }
  }
  return document;
}

/** A schema, and what OpenAPI says of it. */
type Converted = Parameters<NonNullable<ConversionConfig['overrideSchema']>>[0];

/** Tells of the aliases of a `body`: each is a property like the one it stands for, and stands for it where that is required. */
export function withAliases({ valibotSchema, jsonSchema }: Converted): JsonSchema | null {
  const { aliases = {} } = valibotSchema as { aliases?: Readonly<Record<string, string>> };
  const { properties = {}, required = [] } = jsonSchema;
  const pairs = Object.entries(aliases).filter(([, name]) => Object.hasOwn(properties, name));
  if (pairs.length === 0) return null;
  const either = pairs.filter(([, name]) => required.includes(name));
  return {
    ...jsonSchema,
    properties: {
      ...properties,
      ...Object.fromEntries(pairs.map(([alias, name]) => [alias, properties[name]])),
    },
    required: required.filter((name) => either.every(([, other]) => other !== name)),
    ...(either.length > 0 && {
      allOf: either.map((names) => ({ oneOf: names.map((name) => ({ required: [name] })) })),
    }),
  } as JsonSchema;
}

function authErrors(auth: Auth): ErrorCode[] {
  const errors: ErrorCode[] = [];
  if (auth.length > 0) errors.push('unauthenticated');
  if (auth.includes('session')) errors.push('session_unknown');
  const roles: Auth = ['coordinator', 'admin', 'client_key', 'worker_key', 'operator_key'];
  if (auth.some((who) => roles.includes(who))) errors.push('forbidden');
  return errors;
}
