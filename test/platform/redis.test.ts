import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Redis } from 'ioredis';
import { createLogger } from '../../src/platform/logger.ts';
import { connectRedis } from '../../src/platform/redis.ts';
import { harness } from '../support/harness.ts';

const h = await harness();

test('a connection that does not check the cluster connects while slots have no master', async () => {
  const { url } = await h.privateRedis(['cluster-enabled yes', 'cluster-announce-ip 127.0.0.1']);
  const node = new Redis(url);
  h.cleanup(() => node.disconnect());
  await node.call('CLUSTER', 'ADDSLOTSRANGE', 0, 100);
  const target = { url, clusterNodes: [new URL(url).host], commandTimeoutMs: 1_000 };
  const redis = connectRedis(target, 'test', { clusterReadyCheck: false });
  h.cleanup(() => redis.disconnect());
  await once(redis, 'ready');
  // As BullMQ does when its connection seems to hang.
  redis.disconnect();
  await once(redis, 'end');
  await redis.connect();
  assert.equal(redis.status, 'ready');
});

test('an error of Redis brings no password and no argument into the log', async () => {
  const lines: string[] = [];
  const log = createLogger('trace', 'test', { write: (line) => void lines.push(line) });
  const url = new URL(h.redisUrl);
  url.password = 'a-wrong-password-to-be-kept';
  const stranger = connectRedis({ url: url.href, clusterNodes: [], commandTimeoutMs: 1_000 }, 'test');
  h.cleanup(() => stranger.disconnect());
  const [refused] = await once(stranger, 'error');
  const rejected = await h.redis
    .call('EVALSHA', 'f'.repeat(40), 0, 'an-argument-to-be-kept')
    .catch((error) => error);
  log.warn({ err: refused }, 'refused');
  log.warn({ err: new AggregateError([], 'several', { cause: rejected }) }, 'rejected');
  log.warn({ err: Object.assign(new Error('no node'), { lastNodeError: rejected }) }, 'rejected');
  assert.match(lines.join(), /WRONGPASS.*NOSCRIPT/s);
  assert.doesNotMatch(lines.join(), /to-be-kept/);
});
