import assert from 'node:assert/strict';
import { test } from 'node:test';
import { uniqueId } from '../durable/fleet.ts';
import { type Harness, TEST_SECRETS } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { mixedMiners, startMiner, startPool, type TestPool } from './pool.ts';

const EXPLAIN = /^cap=\d\.\d+ • price=\d\.\d+ • latency=\d\.\d+ • trust=\d\.\d+ • load=\d\.\d+$/;
const FLOOD_PER_SEC = 50;
/** The rate that a coordinator has by default. */
const MATCHES_PER_SEC = 40;
/** Another coordinator, with a limit of its own. */
const FLOODER = 'test-secret-of-the-flooder';
/** Of stores that are far from idle. */
const PATIENT = { timeoutMs: 30_000 };

/**
 * Tests, on a pool of two hub processes and a worker, what a miner, a coordinator and an operator see of it.
 * @param settings where the stores are
 */
export async function testChecklist(h: Harness, settings: Record<string, string> = {}): Promise<void> {
  const { hubs } = await startPool(h, {
    ...settings,
    RATE_LIMIT_MATCH_PER_SEC: String(MATCHES_PER_SEC),
    COORDINATOR_SHARED_SECRET: `${TEST_SECRETS.COORDINATOR_SHARED_SECRET},${FLOODER}`,
  });
  const scene = { h, hubs };
  testLives(scene);
  testMatches(scene);
  testFeedback(scene);
  testOperation(scene);
}

interface Scene extends TestPool {
  readonly h: Harness;
}

/** Three miners, each registered on one replica and beating on the other. */
async function enterThree({ h, hubs: [a, b] }: Scene) {
  const profiles = mixedMiners();
  const [first, second, third] = await Promise.all([
    startMiner(h, profiles[0], a, b, 80),
    startMiner(h, profiles[1], b, a, 40),
    startMiner(h, profiles[2], a, b, 20),
  ]);
  // The region of two of them is that of all, less its last part.
  const region = profiles[0].region?.replace(/-west$/, '') as string;
  return { first, second, third, region };
}

/** Who is in the registry. */
function testLives({ h, hubs }: Scene): void {
  const [a, b] = hubs;

  test('three mixed miners, registered on one replica, beat on the other', async () => {
    const { first, second, third } = await enterThree({ h, hubs });
    for (const { minerId, socket } of [first, second, third]) {
      const { lease_expires_at } = await socket.beat();
      const seen = await Promise.all(hubs.map(({ client }) => client.getMiner(minerId)));
      for (const detail of seen) assert.equal(detail.state, 'online');
      assert.ok(Date.parse(lease_expires_at) > Date.now());
    }
    const { online_miners, status } = await a.client.health();
    assert.ok((online_miners ?? 0) >= 3);
    assert.equal(status, 'ok');
  });

  test('a miner that falls silent is degraded, then gone, and the others stay', async () => {
    const { first, second, third, region } = await enterThree({ h, hubs });
    first.silence();
    const seen = new Set<string>();
    await waitFor(async () => {
      const response = await fetch(`${b.url}/v1/miners/${first.minerId}`, {
        headers: { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY },
      });
      if (response.status === 404) return true;
      seen.add(((await response.json()) as { state: string }).state);
      return false;
    }, PATIENT);
    assert.ok(seen.has('degraded'), [...seen].join());
    const { candidates } = await a.client.match({ job_id: uniqueId('job'), hints: { region } });
    const left = new Set(candidates.map(({ miner_id }) => miner_id));
    assert.deepEqual(left, new Set([second.minerId, third.minerId]));
  });
}

/** What a match answers. */
function testMatches({ h, hubs }: Scene): void {
  test('constrained matches are the same from both replicas, and say why', async () => {
    const { first, second, third, region } = await enterThree({ h, hubs });
    const ask = async (requirements: object, hints: object) => {
      const request = { job_id: uniqueId('job'), requirements, hints: { region, max_price: '1', ...hints } };
      const answers = await Promise.all(hubs.map(({ client }) => client.match(request)));
      assert.deepEqual(answers[0]?.candidates, answers[1]?.candidates);
      const [answer] = answers;
      assert.ok(answer);
      for (const candidate of answer.candidates) assert.match(candidate.explain, EXPLAIN);
      if (answer.candidates[0]) assert.equal(answer.explain, answer.candidates[0].explain);
      return answer;
    };
    const ids = (answer: Awaited<ReturnType<typeof ask>>) =>
      answer.candidates.map(({ miner_id }) => miner_id);

    const all = await ask({ capabilities_any: ['llama'] }, {});
    assert.deepEqual(new Set(ids(all)), new Set([first.minerId, second.minerId, third.minerId]));
    const scores = all.candidates.map(({ score }) => score);
    assert.deepEqual(
      scores,
      [...scores].sort((x, y) => y - x),
    );
    assert.deepEqual(ids(await ask({ min_vram_gb: 40 }, {})), [first.minerId]);
    assert.deepEqual(ids(await ask({ accel: ['rocm'] }, {})), [third.minerId]);
    assert.deepEqual(ids(await ask({}, { region: `${region}-west`, max_price: '0.5' })), [second.minerId]);
    assert.equal(ids(await ask({}, { strategy: 'cheapest' }))[0], third.minerId);
    const none = await ask({ min_vram_gb: 40 }, { max_price: '0.2' });
    assert.deepEqual(none.candidates, []);
    assert.match(none.explain, /min_vram_gb|max_price|40/);
  });
}

/** What feedback changes. */
function testFeedback({ h, hubs }: Scene): void {
  const [a, b] = hubs;

  test('feedback moves a score, and the reservation it speaks of', async () => {
    const { second, region } = await enterThree({ h, hubs });
    const requirements = { min_vram_gb: 20 };
    const hints = { region, max_price: '0.5', strategy: 'trusted' };
    const ask = async (client = a.client) => {
      const { candidates } = await client.match({ job_id: uniqueId('job'), requirements, hints });
      assert.equal(candidates[0]?.miner_id, second.minerId);
      return candidates[0]?.score ?? 0;
    };
    const before = await ask();
    const job_id = uniqueId('job');
    const reserved = await b.client.match({
      job_id,
      requirements,
      hints,
      reserve: { count: 1, ttl_ms: 60_000 },
    });
    const reservation_id = reserved.candidates[0]?.reservation_id;
    assert.ok(reservation_id);
    await a.client.confirmReservation(reservation_id);
    const told = { job_id, miner_id: second.minerId, outcome: 'completed' as const, reservation_id };
    const first = await b.client.feedback(told);
    assert.equal(first.status, 'ok');
    assert.deepEqual((await a.client.feedback(told)).status, 'ok');
    for (let n = 0; n < 4; n++)
      await a.client.feedback({ job_id: uniqueId('job'), miner_id: second.minerId, outcome: 'completed' });
    await waitFor(async () => (await ask(b.client)) > before);
    const better = await ask();
    for (let n = 0; n < 6; n++)
      await b.client.feedback({ job_id: uniqueId('job'), miner_id: second.minerId, outcome: 'failed' });
    await waitFor(async () => (await ask()) < better);
  });
}

/** Limits, commands and metrics. */
function testOperation({ h, hubs }: Scene): void {
  const [a] = hubs;

  test('a flood of matches meets the limit, on both replicas together', async () => {
    const statuses = new Set<number>();
    const ask = async (n: number) => {
      const response = await fetch(`${hubs[n % 2]?.url}/v1/match`, {
        method: 'POST',
        headers: { 'X-Coordinator-Secret': FLOODER },
        body: JSON.stringify({ job_id: uniqueId('flood') }),
      });
      statuses.add(response.status);
      return response;
    };
    // Faster than the limit, however slow the machine is, until the burst is used up.
    const refused = await waitFor(async () => {
      const answers = await Promise.all(Array.from({ length: FLOOD_PER_SEC }, (_, n) => ask(n)));
      return answers.find(({ status }) => status === 429);
    }, PATIENT);
    assert.ok(Number(refused.headers.get('Retry-After')) >= 1);
    assert.deepEqual(statuses, new Set([200, 429]));
  });

  test('a command given on one replica reaches the socket on the other', async () => {
    const { first } = await enterThree({ h, hubs });
    await a.client.sendCommand(first.minerId, { name: 'reload', args: { what: 'models' } });
    const command = await waitFor(() => first.socket.commands[0]);
    assert.deepEqual([command.name, command.args], ['reload', { what: 'models' }]);
    await first.socket.beat({ ack: [command.id] });
  });

  test('both replicas show the metrics of the pool', async () => {
    await enterThree({ h, hubs });
    for (const { client } of hubs) {
      await client.match({ job_id: uniqueId('job') });
      const text = await client.metrics();
      const online = /^poolhub_miners_online (\d+)/m.exec(text);
      assert.ok(Number(online?.[1]) >= 3, String(online));
      assert.match(text, /^poolhub_match_latency_ms_bucket\{.*\} [1-9]/m);
      assert.match(text, /^poolhub_heartbeats_total\{transport="ws"\} [1-9]/m);
    }
  });
}
