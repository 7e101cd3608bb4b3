import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { WebSocket } from 'ws';
import { startHub } from '../../src/bin/hub.ts';
import { type Alert, publishAlerts } from '../../src/hub/sla/publish.ts';
import { slaAlerts } from '../../src/hub/sla/tables.ts';
import { applyVerdicts, verdictOf } from '../../src/hub/sla/violations.ts';
import { eventsChannel } from '../../src/platform/keys.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { openWorld, type World } from './world.ts';

const h = await harness();
const BUDGET_MS = 5_000;

/** Opens a violation, or resolves it, and with it comes one alert. */
async function violate(world: World, minerId: string, isOver = false): Promise<void> {
  const verdicts = [verdictOf(minerId, 'uptime', isOver ? 99 : 50, 95)];
  await world.deps.db.run((orm) => applyVerdicts(orm, verdicts, world.nowMs()));
}

/** Who has come is there some time later: alerts come until it hears. */
async function tellUntil(world: World, hears: () => boolean): Promise<void> {
  let n = 0;
  const tell = async () => {
    await violate(world, 'watched', n % 2 === 1);
    n += 1;
    await publishAlerts(world.deps, 200, BUDGET_MS);
    return hears();
  };
  await waitFor(tell, { what: 'an alert is heard' });
}

/** @returns their ids */
async function addAlerts({ deps }: World, count: number, published: boolean, chars = 0): Promise<number[]> {
  const rows = await deps.db.run((orm) =>
    orm.execute<{ id: string }>(sql`
      insert into ${slaAlerts} (type, data, created_at, published)
      select 'violation.opened', jsonb_build_object('pad', repeat('x', ${chars}::int)), now(), ${published}
      from generate_series(1, ${count}::int) returning id`),
  );
  return rows.map(({ id }) => Number(id));
}

test('watchers of /v1/events hear of alerts on any replica, and of what they missed', async () => {
  const world = await openWorld(h);
  const config = { ...world.deps.config, poolhub_port: 0, shutdown_drain_ms: 0 };
  const hub = await startHub(config, createLogger('silent', 'test'));
  h.cleanup(() => hub.stop());
  const url = `${hub.url.replace('http', 'ws')}/v1/events`;
  const stranger = new WebSocket(url);
  const [, response] = await once(stranger, 'unexpected-response');
  assert.equal(response.statusCode, 401);
  stranger.on('error', () => {});
  stranger.terminate();
  const headers = { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY };
  const confused = new WebSocket(`${url}?after=yesterday`, { headers });
  const [, refusal] = await once(confused, 'unexpected-response');
  assert.equal(refusal.statusCode, 422);
  confused.on('error', () => {});
  confused.terminate();

  const heard: Alert[] = [];
  const watch = async (query: string) => {
    const socket = new WebSocket(url + query, { headers });
    socket.on('message', (data) => heard.push(JSON.parse(String(data)) as Alert));
    await once(socket, 'open');
    return socket;
  };
  const live = await watch('');
  await tellUntil(world, () => heard.length > 0);
  const { id } = heard[0] as Alert;
  live.close();
  heard.length = 0;
  const late = await watch(`?after=${id - 1}`);
  await waitFor(() => heard[0]?.id === id, { what: 'the missed alert is heard' });
  const closed = once(late, 'close');
  await hub.stop();
  assert.equal((await closed)[0], 1012);
});

test('a watcher gets a long past in order, what came meanwhile, and what Redis did not pass on', async () => {
  const world = await openWorld(h);
  const { redis } = world.deps;
  const config = { ...world.deps.config, poolhub_port: 0, shutdown_drain_ms: 0 };
  const hub = await startHub(config, createLogger('silent', 'test'));
  h.cleanup(() => hub.stop());
  const add = (count: number, published: boolean) => addAlerts(world, count, published);
  const eventClients = async () =>
    String(await redis.client('LIST'))
      .split('\n')
      .filter((line) => line.includes(' name=pool-hub-events '))
      .map((line) => /^id=(\d+)/.exec(line)?.[1] as string);
  const others = new Set(await eventClients());

  const expected = await add(1_200, true);
  const heard: number[] = [];
  const query = `?after=${(expected[0] as number) - 1}`;
  const socket = new WebSocket(`${hub.url.replace('http', 'ws')}/v1/events${query}`, {
    headers: { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY },
  });
  h.cleanup(() => socket.terminate());
  socket.on('message', (data) => heard.push((JSON.parse(String(data)) as Alert).id));
  await once(socket, 'open');
  expected.push(...(await add(3, false)));
  const hearsAll = () => expected.every((id) => heard.includes(id));
  await waitFor(hearsAll, { what: 'the past is heard' });
  // What was read is announced only now.
  expected.push(...(await add(2, false)));
  await publishAlerts(world.deps, 100, BUDGET_MS);
  await waitFor(hearsAll, { what: 'the present is heard' });

  // Told to nobody: as if Redis had been away when it was published.
  expected.push(...(await add(1, true)));
  const [ours] = (await eventClients()).filter((id) => !others.has(id));
  await redis.client('KILL', 'ID', ours as string);
  await waitFor(hearsAll, { what: 'the alert that was not passed on is heard' });
  assert.deepEqual(heard, expected);
});

test('what the channel loses, or passes on in another order, is heard with the next alert, in order', async () => {
  const world = await openWorld(h);
  const hub = await startHub(
    { ...world.deps.config, poolhub_port: 0, shutdown_drain_ms: 0 },
    createLogger('silent', 'test'),
  );
  h.cleanup(() => hub.stop());
  const headers = { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY };
  const socket = new WebSocket(`${hub.url.replace('http', 'ws')}/v1/events`, { headers });
  const heard: number[] = [];
  socket.on('message', (data) => heard.push((JSON.parse(String(data)) as Alert).id));
  await once(socket, 'open');
  await tellUntil(world, () => heard.length > 0);
  heard.length = 0;
  const ids = (await addAlerts(world, 3, true)) as [number, number, number];
  const tell = (id: number, after: number) => {
    const alert = { id, type: 'violation.opened', created_at: '', data: {}, after };
    return world.deps.redis.publish(eventsChannel(world.deps.scripts.prefix), JSON.stringify(alert));
  };
  await tell(ids[2], ids[1]);
  await tell(ids[1], ids[0]);
  await waitFor(() => heard.includes(ids[2]), { what: 'the newest is heard' });
  assert.deepEqual(heard.slice(-3), ids);
  socket.close();
});

test('a watcher that reads slower than alerts come gets all of them, once and in order', async () => {
  const world = await openWorld(h);
  const config = { ...world.deps.config, poolhub_port: 0, shutdown_drain_ms: 0 };
  const hub = await startHub(config, createLogger('silent', 'test'));
  h.cleanup(() => hub.stop());
  const url = `${hub.url.replace('http', 'ws')}/v1/events`;
  const heard: number[] = [];
  const watch = async () => {
    const socket = new WebSocket(url, { headers: { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY } });
    h.cleanup(() => socket.terminate());
    await once(socket, 'open');
    return socket;
  };
  const [slow, quick] = [await watch(), await watch()];
  slow.on('message', (data) => heard.push((JSON.parse(String(data)) as Alert).id));
  let newest = 0;
  quick.on('message', (data) => {
    newest = (JSON.parse(String(data)) as Alert).id;
  });
  // Both hear of one: from then on what comes is passed on.
  await tellUntil(world, () => newest > 0 && heard.at(-1) === newest);
  const expected = [...heard];
  const { _socket: connection } = slow as unknown as { _socket: Socket };
  connection.pause();
  // More than the kernel takes for a reader, and a hub keeps for one.
  expected.push(...(await addAlerts(world, 1_500, false, 8_000)));
  await publishAlerts(world.deps, 200, BUDGET_MS);
  await waitFor(() => newest === expected.at(-1), { timeoutMs: 20_000, what: 'the other has all' });
  connection.resume();
  await waitFor(() => heard.at(-1) === expected.at(-1), {
    timeoutMs: 20_000,
    what: 'the slow one has the last',
  });
  assert.deepEqual(heard, expected);
});

test('alerts are committed in the order of their ids, whoever writes them', async () => {
  const world = await openWorld(h);
  const { db } = world.deps;
  const seen: number[] = [];
  let isOver = false;
  const reading = (async () => {
    while (!isOver) {
      const rows = await db.run((orm) =>
        orm.execute<{ id: string }>(
          sql`select id from ${slaAlerts} where id > ${seen.at(-1) ?? 0} order by id`,
        ),
      );
      seen.push(...rows.map(({ id }) => Number(id)));
    }
  })();
  const writers = Array.from({ length: 6 }, async (_, k) => {
    for (let n = 0; n < 25; n += 1) await violate(world, `writer-${k}-${n}`);
  });
  await Promise.all(writers);
  isOver = true;
  await reading;
  const last = seen.at(-1) ?? 0;
  const all = await db.run((orm) =>
    orm.execute<{ id: string }>(sql`select id from ${slaAlerts} where id <= ${last} order by id`),
  );
  assert.deepEqual(
    seen,
    all.map(({ id }) => Number(id)),
  );
});
