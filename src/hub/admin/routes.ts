import type { Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { AppError, type ErrorCode } from '../../platform/errors.ts';
import { operation } from '../../platform/openapi.ts';
import { jsonBody, pathParams, query } from '../../platform/validation.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { priceBinTop } from '../matching/score.ts';
import { type GivenCommand, giveCommand } from '../miners/commands.ts';
import { createKey } from '../miners/enrollment.ts';
import { deleteOverride, putOverride } from '../miners/overrides.ts';
import { CommandRequest, ListQuery, MinerParams, PriceOverrideRequest } from '../miners/schema.ts';
import { lastFeedback } from './last-feedback.ts';
import {
  CommandAnswer,
  DoneAnswer,
  KeyAnswer,
  MinerDetail,
  MinerPage,
  PriceOverrideAnswer,
} from './schema.ts';
import { detailOf, summaryOf } from './view.ts';

const MAX_COMMANDS_SHOWN = 64;
const BODY_ERRORS: readonly ErrorCode[] = ['bad_json', 'invalid', 'too_large'];

const admin = { tag: 'Administration', auth: ['admin'] } as const;

/** The calls of administrators on single miners and the whole registry. */
export function adminRoutes(app: Hono<AppEnv>, deps: HubDeps, guards: Guards): void {
  listRoutes(app, deps, guards);
  commandRoutes(app, deps, guards);
  priceRoutes(app, deps, guards);
  const { permit, limit } = guards;

  app.post(
    '/v1/miners/:id/keys',
    operation({
      ...admin,
      summary: 'Enrolls a miner or gives it another key, shown once; the old key stops working',
      answers: { 201: KeyAnswer },
      errors: ['invalid'],
    }),
    permit('admin'),
    limit('default'),
    pathParams(MinerParams),
    async (c) => {
      const { id } = c.req.valid('param');
      const { api_key, created } = await createKey(deps, id);
      return c.json({ status: 'ok', miner_id: id, api_key, created }, 201);
    },
  );

  app.delete(
    '/v1/miners/:id',
    operation({
      ...admin,
      summary: 'Takes a miner out of the registry; it may register again',
      answers: { 200: DoneAnswer },
      errors: ['invalid', 'not_found'],
    }),
    permit('admin'),
    limit('default'),
    pathParams(MinerParams),
    async (c) => {
      const { id } = c.req.valid('param');
      if (!(await deps.miners.remove(id, 'operator'))) throw unknownMiner();
      return c.json({ status: 'ok', miner_id: id });
    },
  );
}

function listRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards): void {
  app.get(
    '/v1/miners',
    operation({
      ...admin,
      summary: 'The live registry, page by page',
      answers: { 200: MinerPage },
      errors: ['invalid'],
    }),
    permit('admin'),
    limit('default'),
    query(ListQuery),
    async (c) => {
      const { limit: pageSize, cursor, state, region, capability, tag } = c.req.valid('query');
      const filter = {
        ...(state === undefined ? {} : { state }),
        ...(region === undefined ? {} : { region }),
        ...(capability === undefined ? {} : { capability }),
        ...(tag === undefined ? {} : { tag }),
      };
      const [page, stats] = await Promise.all([
        deps.miners.list(filter, cursor, pageSize),
        deps.miners.stats(),
      ]);
      const { registered, online, degraded, matchable, busy, draining, full, reservations } = stats;
      return c.json({
        miners: page.miners.map((hash) => summaryOf(hash.miner_id ?? '', hash)),
        total: page.total,
        totals: { registered, online, degraded, matchable, busy, draining, full, reservations },
        ...(page.nextCursor === undefined ? {} : { next_cursor: page.nextCursor }),
      });
    },
  );

  app.get(
    '/v1/miners/:id',
    operation({
      ...admin,
      summary: 'All that the registry holds of a miner',
      answers: { 200: MinerDetail },
      errors: ['invalid', 'not_found'],
    }),
    permit('admin'),
    limit('default'),
    pathParams(MinerParams),
    async (c) => {
      const { id } = c.req.valid('param');
      const [hash, stats, pendingCommands, feedback] = await Promise.all([
        deps.miners.get(id),
        deps.miners.stats(),
        deps.miners.pendingCommands(id, MAX_COMMANDS_SHOWN),
        lastFeedback(deps.db, id),
      ]);
      if (hash === undefined) throw unknownMiner();
      return c.json(
        detailOf(id, hash, {
          strategies: deps.config.strategies,
          priceReference: priceBinTop(stats.highestPriceBin),
          pendingCommands,
          lastFeedback: feedback,
        }),
      );
    },
  );
}

function commandRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards): void {
  app.post(
    '/v1/miners/:id/commands',
    operation({
      ...admin,
      summary: 'Queues a command until the miner acknowledges it',
      answers: { 202: CommandAnswer },
      errors: [...BODY_ERRORS, 'not_found', 'conflict'],
    }),
    permit('admin'),
    limit('default'),
    pathParams(MinerParams),
    jsonBody(CommandRequest),
    async (c) => {
      const { id } = c.req.valid('param');
      return c.json(commandAnswer(id, await giveCommand(deps, id, c.req.valid('json'))), 202);
    },
  );

  for (const name of ['drain', 'resume'] as const) {
    app.post(
      `/v1/miners/:id/${name}`,
      operation({
        ...admin,
        summary: name === 'drain' ? 'The miner gets no new jobs' : 'The miner gets jobs again',
        answers: { 202: CommandAnswer },
        errors: ['invalid', 'not_found', 'conflict'],
      }),
      permit('admin'),
      limit('default'),
      pathParams(MinerParams),
      async (c) => {
        const { id } = c.req.valid('param');
        return c.json(commandAnswer(id, await giveCommand(deps, id, { name, args: {} })), 202);
      },
    );
  }
}

function priceRoutes(app: Hono<AppEnv>, deps: HubDeps, { permit, limit }: Guards): void {
  app.put(
    '/v1/miners/:id/price-override',
    operation({
      ...admin,
      summary: 'Sets the price of a miner over its own',
      answers: { 200: PriceOverrideAnswer },
      errors: [...BODY_ERRORS, 'not_found'],
    }),
    permit('admin'),
    limit('default'),
    pathParams(MinerParams),
    jsonBody(PriceOverrideRequest),
    async (c) => {
      const { id } = c.req.valid('param');
      const { price, expires_at } = c.req.valid('json');
      const expiresAt = expires_at === undefined ? null : new Date(expires_at);
      if (!(await putOverride(deps, id, { price, expiresAt }))) throw unknownMiner();
      return c.json({ status: 'ok', miner_id: id, price, expires_at: expiresAt?.toISOString() ?? null });
    },
  );

  app.delete(
    '/v1/miners/:id/price-override',
    operation({
      ...admin,
      summary: 'Lifts the price override of a miner',
      answers: { 200: DoneAnswer },
      errors: ['invalid', 'not_found'],
    }),
    permit('admin'),
    limit('default'),
    pathParams(MinerParams),
    async (c) => {
      const { id } = c.req.valid('param');
      if (!(await deleteOverride(deps, id)))
        throw new AppError('not_found', 'the miner has no price override');
      return c.json({ status: 'ok', miner_id: id });
    },
  );
}

function commandAnswer(minerId: string, given: GivenCommand) {
  if (given.status === 'unknown_miner') throw unknownMiner();
  if (given.status === 'full') {
    throw new AppError('conflict', 'too many commands wait for this miner: COMMANDS_MAX_PENDING');
  }
  return { status: 'ok', miner_id: minerId, command_id: given.id } as const;
}

function unknownMiner(): AppError {
  return new AppError('not_found', 'no such miner');
}
