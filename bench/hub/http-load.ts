import autocannon from 'autocannon';
import { newJobId, requestOf } from '../match/shapes.ts';
import type { HubUnderLoad } from './hub-process.ts';
import { Latency } from './latency.ts';

/** What one measurement found. */
export interface Measured {
  readonly perSec: number;
  readonly latency: Latency;
}

interface Load {
  readonly connections: number;
  readonly seconds: number;
}

/** Requests that a connection sends in turn, made before the clock runs. */
const JOBS_PER_SHAPE = 8;
const QUEUE_LENGTHS = [0, 1, 2, 1];
const REQUEST_TIMEOUT_SEC = 10;

/** The cheapest route of the server: what HTTP itself costs here. */
export function measureBare({ url }: HubUnderLoad, load: Load): Promise<Measured> {
  return fire(url, load, () => [{ method: 'GET', path: '/livez' }]);
}

/** Heartbeats over HTTP, one miner to a connection; loads and latencies change as they do at work. */
export function measureHttpBeats({ url, sessions }: HubUnderLoad, load: Load): Promise<Measured> {
  return fire(url, load, (connection) =>
    QUEUE_LENGTHS.map((queue_len, n) => ({
      method: 'POST',
      path: '/v1/miners/heartbeat',
      headers: {
        Authorization: `Bearer ${sessions[connection]?.sessionToken}`,
        'Content-Type': 'application/json',
      },
      body: JSON.stringify({ queue_len, busy: false, avg_latency_ms: 40 + 5 * n, temp_c: 60 + n }),
    })),
  );
}

/** Matches of all kinds in turn, each for a job of its own. */
export function measureMatches(
  { url, coordinatorSecret, shapes }: HubUnderLoad,
  load: Load,
): Promise<Measured> {
  return fire(url, load, (connection) =>
    Array.from({ length: JOBS_PER_SHAPE * shapes.length }, (_, n) => {
      const shape = shapes[(n + connection) % shapes.length] as (typeof shapes)[number];
      return {
        method: 'POST',
        path: '/v1/match',
        headers: { 'X-Coordinator-Secret': coordinatorSecret, 'Content-Type': 'application/json' },
        body: JSON.stringify(requestOf(shape, newJobId())),
      };
    }),
  );
}

/**
 * Keeps one request under way on each connection.
 * @throws Error when any is not answered with 2xx: refusals are cheaper than work, and would look like speed
 */
async function fire(
  url: string,
  { connections, seconds }: Load,
  requestsOf: (connection: number) => autocannon.Request[],
): Promise<Measured> {
  const latency = new Latency();
  let connection = 0;
  const result = await new Promise<autocannon.Result>((resolve, reject) => {
    const run = autocannon(
      {
        url,
        connections,
        duration: seconds,
        timeout: REQUEST_TIMEOUT_SEC,
        setupClient: (client) => {
          client.setRequests(requestsOf(connection));
          connection += 1;
        },
      },
      (error, found) => (error ? reject(error) : resolve(found)),
    );
    // Its own histogram counts whole milliseconds.
    run.on('response', (_client, _status, _bytes, responseTimeMs) => latency.record(responseTimeMs));
  });
  const answered = result['2xx'];
  const wrong = result.non2xx + result.errors;
  if (wrong > 0 || answered === 0) {
    throw new Error(`${wrong} of ${wrong + answered} requests were not answered with 2xx`);
  }
  return { perSec: answered / result.duration, latency };
}
