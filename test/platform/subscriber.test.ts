import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import { createLogger } from '../../src/platform/logger.ts';
import { subscribe } from '../../src/platform/subscriber.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

const h = await harness();

test('a subscriber drops what it cannot read, and says each time when it hears again', async () => {
  const [name, channel] = [`${h.prefix}-name`, `${h.prefix}:channel`];
  const heard: number[] = [];
  let subscribed = 0;
  const config = { redis_url: h.redisUrl, redis_cluster_nodes: [], redis_command_timeout_ms: 1000 };
  const subscriber = subscribe(config, createLogger('silent', 'test'), {
    name,
    channel,
    message: v.object({ id: v.number() }),
    onMessage: ({ id }) => heard.push(id),
    onSubscribed: () => {
      subscribed += 1;
    },
  });
  h.cleanup(() => subscriber.close());
  await waitFor(() => subscribed === 1);
  for (const text of ['not json', '', 'null', '{"id":"1"}', '{"id":1}']) await h.redis.publish(channel, text);
  await waitFor(() => heard.length > 0);

  const clients = String(await h.redis.client('LIST')).split('\n');
  const ours = clients.find((line) => line.includes(` name=${name} `)) ?? assert.fail('no connection');
  await h.redis.client('KILL', 'ID', /^id=(\d+)/.exec(ours)?.[1] as string);
  await waitFor(() => subscribed === 2);
  await h.redis.publish(channel, '{"id":2}');
  await waitFor(() => heard.length > 1);
  assert.deepEqual(heard, [1, 2]);
});
