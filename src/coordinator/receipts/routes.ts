import type { Context, Hono } from 'hono';
import { resolver, uniqueSymbol } from 'hono-openapi';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError, invalidAt } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import { bodyText, query } from '../../platform/validation.ts';
import type { CoordinatorDeps } from '../deps.ts';
import { callerId, type Guards } from '../guards.ts';
import { jobParams } from '../jobs/params.ts';
import { isJsonObject, type JsonObject, JsonTextError, objectText, parseJsonText } from './json-text.ts';
import { knownKeys, publicKeys } from './keys.ts';
import {
  KeysAnswer,
  ReceiptAnswer,
  ReceiptPage,
  ReceiptsQuery,
  VerifyAnswer,
  VerifyRequest,
} from './schema.ts';
import { isJobOf, listReceipts } from './store.ts';
import { checkReceiptObject, namedKeys } from './verify.ts';

type Deps = Pick<CoordinatorDeps, 'db' | 'money'>;

const KEYS_CACHE_SEC = 60;
const KEYS_CACHE_MS = 5000;

/** Receipts of jobs, and whether a receipt holds. */
export function receiptRoutes(app: Hono<AppEnv>, deps: Deps, { permit }: Pick<Guards, 'permit'>): void {
  jobReceiptRoutes(app, deps, permit);

  const keysOf = cachedKeys(deps);
  app.get(
    '/v1/receipts/keys',
    operation({
      summary: 'Public keys that receipts are or were signed with; for anybody',
      tag: 'Receipts',
      auth: [],
      answers: { 200: KeysAnswer },
      errors: ['unavailable'],
    }),
    async (c) => {
      const keys = await keysOf();
      return c.json({ keys }, 200, { 'Cache-Control': `public, max-age=${KEYS_CACHE_SEC}` });
    },
  );

  app.post(
    '/v1/receipts/verify',
    operation({
      summary: 'Whether a receipt was signed here, and as it stands',
      tag: 'Receipts',
      auth: ['client_key', 'worker_key', 'operator_key'],
      answers: { 200: VerifyAnswer },
      errors: ['bad_json', 'invalid', 'too_large'],
    }),
    permit('client', 'miner', 'admin'),
    // Only tells OpenAPI of the body: parsed by the usual means it would lose the texts of its numbers.
    Object.assign(async (_: Context, next: () => Promise<void>) => next(), {
      [uniqueSymbol]: { target: 'json', ...resolver(VerifyRequest) },
    }),
    async (c) => {
      const receipt = receiptIn(await bodyText(c));
      const known = await knownKeys(deps.db, deps.money.signers, namedKeys(receipt));
      return c.json(checkReceiptObject(receipt, (keyId) => known.has(keyId)));
    },
  );
}

function jobReceiptRoutes(app: Hono<AppEnv>, { db }: Deps, permit: Guards['permit']): void {
  app.get(
    '/v1/jobs/:job_id/receipt',
    operation({
      summary: 'The receipt of a completed job',
      tag: 'Receipts',
      auth: ['client_key'],
      answers: { 200: ReceiptAnswer },
      errors: ['invalid', 'not_found'],
    }),
    permit('client'),
    jobParams(),
    async (c) => {
      const { job_id } = c.req.valid('param');
      const client = callerId(c);
      const receipts = await db.run(async (orm) =>
        (await isJobOf(orm, job_id, client)) ? listReceipts(orm, job_id, 0, 1) : undefined,
      );
      if (receipts === undefined) throw new AppError('not_found', 'no such job');
      if (receipts[0] === undefined) throw new AppError('not_found', 'the job has no receipt');
      return answerText(c, receipts[0].body);
    },
  );

  app.get(
    '/v1/jobs/:job_id/receipts',
    operation({
      summary: 'All receipts of a job, oldest first, in pages',
      tag: 'Receipts',
      auth: ['client_key'],
      answers: { 200: ReceiptPage },
      errors: ['invalid', 'not_found'],
    }),
    permit('client'),
    jobParams(),
    query(ReceiptsQuery),
    async (c) => {
      const { job_id } = c.req.valid('param');
      const { limit, cursor = 0 } = c.req.valid('query');
      const client = callerId(c);
      const found = await db.run(async (orm) =>
        (await isJobOf(orm, job_id, client)) ? listReceipts(orm, job_id, cursor, limit + 1) : undefined,
      );
      if (found === undefined) throw new AppError('not_found', 'no such job');
      const page = found.slice(0, limit);
      const last = found.length > limit ? page.at(-1) : undefined;
      return answerText(
        c,
        objectText({
          items: `[${page.map(({ body }) => body).join(',')}]`,
          next_cursor: last === undefined ? undefined : JSON.stringify(String(last.seq)),
        }),
      );
    },
  );
}

/** Anybody may ask for the keys without limit, so the table is read once in a while for all of them. */
function cachedKeys({ db, money }: Deps): () => ReturnType<typeof publicKeys> {
  let readAtMs = Number.NEGATIVE_INFINITY;
  let reading: ReturnType<typeof publicKeys> | undefined;
  return () => {
    if (reading !== undefined && performance.now() - readAtMs < KEYS_CACHE_MS) return reading;
    readAtMs = performance.now();
    const started = publicKeys(db, money.signers);
    reading = started;
    started.catch(() => {
      // Whoever waits is told; the next one asks again.
      if (reading === started) reading = undefined;
    });
    return started;
  };
}

function receiptIn(text: string): JsonObject {
  try {
    const node = parseJsonText(text);
    if (isJsonObject(node)) return node;
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error;
    throw new AppError('bad_json', `the body is not JSON: ${error.message}`, { cause: error });
  }
  throw invalidAt('', 'must be an object');
}

/** JSON that is sent as it was stored. */
function answerText(c: Context<AppEnv>, text: string): Response {
  return c.body(text, 200, { 'Content-Type': 'application/json' });
}
