/**
 * A receiver of alerts: takes what is signed with WEBHOOK_SECRET, each alert once, and prints it.
 *
 *     WEBHOOK_SECRET=... PORT=8099 npx tsx docs/examples/webhook-receiver.ts
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const SECRET = process.env.WEBHOOK_SECRET;
if (!SECRET) throw new Error('WEBHOOK_SECRET is not set');
const REPLAY_WINDOW_SEC = 300;
const MAX_BODY_BYTES = 65_536;
const MAX_SEEN = 10_000;

/** The alerts that were taken. Keep them beside your data: a restart must not forget them. */
const seen = new Set<number>();

/** @param header X-Poolhub-Signature @param body the bytes as they came: JSON that is written again may differ */
function isGenuine(secret: string, header: string, body: Buffer): boolean {
  const [, sentSec = '', digest = ''] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header) ?? [];
  if (Math.abs(Date.now() / 1000 - Number(sentSec)) > REPLAY_WINDOW_SEC) return false;
  const expected = createHmac('sha256', secret).update(`${sentSec}.`).update(body).digest();
  const given = Buffer.from(digest, 'hex');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return void response.writeHead(413).end();
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!isGenuine(SECRET, String(request.headers['x-poolhub-signature']), body)) {
    return void response.writeHead(401).end();
  }
  const alert = JSON.parse(body.toString('utf8'));
  if (!seen.has(alert.id)) {
    seen.add(alert.id);
    if (seen.size > MAX_SEEN) seen.delete(Math.min(...seen));
    console.log(`${alert.id} ${alert.type} ${alert.data.miner_id ?? 'pool'} ${alert.data.severity}`);
  }
  // Whatever is not 2xx comes again.
  response.writeHead(204).end();
});
server.listen(Number(process.env.PORT ?? 8099), '127.0.0.1', () => {
  console.log(`listening on ${(server.address() as AddressInfo).port}`);
});
