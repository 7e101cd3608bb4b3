import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Redis } from 'ioredis';
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
