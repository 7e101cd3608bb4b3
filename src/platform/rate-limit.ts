import type { IncomingMessage } from 'node:http';
import type { Context, MiddlewareHandler } from 'hono';
import {
  BurstyRateLimiter,
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
  RLWrapperTimeouts,
} from 'rate-limiter-flexible';
import type { AppEnv } from './app-env.ts';
import { networkOf } from './client-address.ts';
import type { Config } from './config.ts';
import { AppError } from './errors.ts';
import { limiterPrefix } from './keys.ts';
import type { Metrics } from './metrics.ts';
import type { RedisClient } from './redis.ts';
import { addressSet } from './settings.ts';
import { addressOf } from './upgrade.ts';

/** The classes of calls that are counted apart. */
export type LimitName = 'register' | 'match' | 'default';

/** Makes the middleware that counts a call against the limit of its class and client. */
export type Limit = (name: LimitName) => MiddlewareHandler<AppEnv>;

/** The burst is as much again, and comes back once in this time. */
const BURST_WINDOW_SEC = 10;

/** A Redis that answers slower than this is counted as down for the limit; the call itself has its own, longer timeout. */
const REDIS_BUDGET_MS = 150;

interface LimitDeps {
  readonly config: Config;
  readonly redis: RedisClient;
  readonly metrics: Metrics;
}

/**
 * Rate limits per client and class of calls. They live in Redis, so that all replicas count together; while Redis does not answer, each
 * replica counts for itself. A client is a proven caller at its address, else the address alone.
 *
 * Semantics: `perSec` calls in each second, and beside them `perSec` more in each 10 seconds, so that a client may
 * burst to twice its rate for a second and is held to 1.1 times its rate in the long run.
 */
export function createLimit({ config, redis, metrics }: LimitDeps): Limit {
  const perSec: Record<LimitName, number> = {
    register: config.rate_limit_register_per_sec,
    match: config.rate_limit_match_per_sec,
    default: config.rate_limit_default_per_sec,
  };
  const prefix = limiterPrefix(config.redis_prefix);
  const middlewares = new Map<LimitName, MiddlewareHandler<AppEnv>>();

  return (name) => {
    const known = middlewares.get(name);
    if (known !== undefined) return known;
    const points = perSec[name];
    const limiter = new BurstyRateLimiter(
      sharedLimiter(redis, `${prefix}:${name}`, points, 1),
      sharedLimiter(redis, `${prefix}:${name}:burst`, points, BURST_WINDOW_SEC),
    );
    const middleware: MiddlewareHandler<AppEnv> = async (c, next) => {
      await consume(c, limiter, clientOf(c), points, () => metrics.rateLimited.inc({ route: name }));
      await next();
    };
    middlewares.set(name, middleware);
    return middleware;
  };
}

/** Counts one call against the limit of a miner; `key` says whose calls count together. */
export type LimitMiner = (c: HeaderSink, key: string) => Promise<void>;

/** Takes the headers of an answer. */
type HeaderSink = Pick<Context<AppEnv>, 'header'>;

/** The answer to a handshake that is taken has no place for them. */
export const NO_HEADERS: HeaderSink = { header: () => {} };

/**
 * The limit of the calls that miners make all the time: RATE_LIMIT_HEARTBEAT_PER_SEC, counted by each replica for itself. A
 * shared counter would double the round trips of a heartbeat to protect what one script call costs.
 */
export function createMinerLimit({ config, metrics }: Omit<LimitDeps, 'redis'>): LimitMiner {
  return createLocalLimit('miner', config.rate_limit_heartbeat_per_sec, () =>
    metrics.rateLimited.inc({ route: 'miner' }),
  );
}

/** Counts a handshake against the limit of the network that it comes from. @throws AppError `rate_limited` */
export type LimitHandshake = (request: IncomingMessage) => Promise<void>;

/**
 * The limit of handshakes: RATE_LIMIT_DEFAULT_PER_SEC per network. Each replica counts for itself, because what there is to protect is
 * the replica: its sockets, and what it takes to check who comes.
 */
export function createHandshakeLimit({ config, metrics }: Omit<LimitDeps, 'redis'>): LimitHandshake {
  const trusted = addressSet(config.trusted_proxies);
  const limit = createLocalLimit('handshake', config.rate_limit_default_per_sec, () =>
    metrics.rateLimited.inc({ route: 'handshake' }),
  );
  return (request) => limit(NO_HEADERS, networkOf(addressOf(request, trusted)));
}

/** Runs what tries a credential, and counts it for the network of the caller's address when it throws a 401. */
export type LimitGuesses = <T>(address: string, attempt: () => T | Promise<T>) => Promise<T>;

/**
 * The limit of guesses: a network whose credentials were refused `perSec` times within a second is not heard until the second
 * is over, whatever ids, keys and tokens it makes up. What is accepted is not counted. Each process counts for itself.
 */
export function createGuessLimit(perSec: number, onRefusal: () => void): LimitGuesses {
  const limiter = new RateLimiterMemory({ keyPrefix: 'guesses', points: perSec, duration: 1 });
  return async (address, attempt) => {
    const network = networkOf(address);
    const refused = await limiter.get(network);
    if (refused !== null && refused.remainingPoints <= 0) {
      onRefusal();
      throw tooMany(refused);
    }
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof AppError && error.status === 401) await limiter.penalty(network);
      throw error;
    }
  };
}

/** A limit that each process counts for itself: `perSec` calls a second of each key, with the same burst as the shared limits. */
export function createLocalLimit(name: string, perSec: number, onRefusal: () => void): LimitMiner {
  const limiter = new BurstyRateLimiter(
    new RateLimiterMemory({ keyPrefix: name, points: perSec, duration: 1 }),
    new RateLimiterMemory({ keyPrefix: `${name}:burst`, points: perSec, duration: BURST_WINDOW_SEC }),
  );
  return (c, key) => consume(c, limiter, key, perSec, onRefusal);
}

async function consume(
  c: HeaderSink,
  limiter: BurstyRateLimiter,
  key: string,
  points: number,
  onRefusal: () => void,
): Promise<void> {
  try {
    setHeaders(c, points, await limiter.consume(key));
  } catch (refusal) {
    if (!(refusal instanceof RateLimiterRes)) throw refusal;
    setHeaders(c, points, refusal);
    onRefusal();
    throw tooMany(refusal);
  }
}

function tooMany(refusal: RateLimiterRes): AppError {
  return new AppError('rate_limited', 'too many requests', { retry_after_sec: secondsUntilNext(refusal) });
}

function sharedLimiter(
  redis: RedisClient,
  keyPrefix: string,
  points: number,
  duration: number,
): RLWrapperTimeouts {
  const limiter = new RateLimiterRedis({
    storeClient: redis,
    rejectIfRedisNotReady: true,
    keyPrefix,
    points,
    duration,
    insuranceLimiter: new RateLimiterMemory({ keyPrefix, points, duration }),
  });
  return new RLWrapperTimeouts({ limiter, timeoutMs: REDIS_BUDGET_MS });
}

function clientOf(c: Context<AppEnv>): string {
  const caller = c.get('caller');
  const address = networkOf(c.get('address'));
  return caller === undefined ? address : `${caller.role}-${caller.id}@${address}`;
}

function secondsUntilNext(result: RateLimiterRes): number {
  return Math.max(1, Math.ceil(result.msBeforeNext / 1000));
}

/** The RateLimit header fields (draft-ietf-httpapi-ratelimit-headers-06). */
function setHeaders(c: HeaderSink, points: number, result: RateLimiterRes): void {
  c.header('RateLimit-Policy', `${points};w=1;burst=${points}`);
  c.header('RateLimit-Limit', String(points));
  c.header('RateLimit-Remaining', String(result.remainingPoints));
  c.header('RateLimit-Reset', String(secondsUntilNext(result)));
}
