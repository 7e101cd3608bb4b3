/**
 * A coordinator that takes usage, keeps a ledger on disk, and misbehaves: a process of its own, so that it can die. What it
 * shall do is written into the file MISCHIEF, as JSON `{"kinds": [...], "left": n}`: the next n calls meet one kind each, in turn.
 */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

const { LEDGER = '', MISCHIEF = '', PORT = '0' } = process.env;

const lines = existsSync(LEDGER) ? readFileSync(LEDGER, 'utf8').split('\n').filter(Boolean) : [];
const accepted = new Map(
  lines
    .map((line) => JSON.parse(line) as { event: string; key: string; digest: string })
    .filter(({ event }) => event === 'accepted')
    .map(({ key, digest }) => [key, digest]),
);

const server = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  const key = String(request.headers['idempotency-key']);
  write({ event: 'arrived', key, authorization: request.headers.authorization, path: request.url });
  misbehave(nextMischief(), response, () => accept(key, text));
});
server.listen(Number(PORT), '127.0.0.1', () => {
  process.stdout.write(`listening on ${(server.address() as AddressInfo).port}\n`);
});

type Take = () => readonly [status: number, body: object];
type Mischief = (response: ServerResponse, take: Take) => void;

const internal = { error: { code: 'internal' } };
const page = { 'Content-Type': 'text/html' };

/** Each kind of mischief; those that end in `-accepted` have taken the record before. */
const MISCHIEFS: Record<string, Mischief> = {
  '500': (response) => answer(response, 500, internal),
  '422': (response) => answer(response, 422, { error: { code: 'invalid', message: 'not this one' } }),
  '429': (response) => {
    response.setHeader('Retry-After', '1');
    answer(response, 429, { error: { code: 'rate_limited' } });
  },
  hang: () => {},
  /** Until MISCHIEF is of the kind `let-go`. */
  hold: (response) => {
    const timer = setInterval(() => {
      if (!readFileSync(MISCHIEF, 'utf8').includes('let-go')) return;
      clearInterval(timer);
      response.socket?.destroy();
    }, 10);
  },
  page: (response) => {
    response.writeHead(200, page).end('<html>Welcome</html>');
  },
  reset: (response) => {
    response.socket?.destroy();
  },
  'cut-off': (response, take) => {
    take();
    response.writeHead(200, { 'Content-Length': '1000' }).write('{"status":');
    setTimeout(() => response.socket?.destroy(), 10);
  },
  twice: (response, take) => {
    take();
    answer(response, ...take());
  },
  die: () => {
    process.exit(1);
  },
};

function misbehave(kind: string | undefined, response: ServerResponse, take: Take): void {
  const mischief = kind === undefined ? undefined : MISCHIEFS[kind.replace('-accepted', '')];
  if (kind !== undefined && mischief === undefined) throw new Error(`no mischief is named ${kind}`);
  if (kind?.endsWith('-accepted') === true) take();
  if (mischief === undefined) answer(response, ...take());
  else mischief(response, take);
}

/** Takes a record once. The ledger is on disk before anybody hears of it. */
function accept(key: string, text: string): [number, object] {
  const digest = createHash('sha256').update(text).digest('hex');
  const known = accepted.get(key);
  if (known !== undefined && known !== digest) return [409, { error: { code: 'conflict' } }];
  if (known === undefined) {
    accepted.set(key, digest);
    write({ event: 'accepted', key, digest, body: JSON.parse(text) });
  }
  return [200, { status: 'ok', id: key, duplicate: known !== undefined }];
}

function nextMischief(): string | undefined {
  if (!existsSync(MISCHIEF)) return undefined;
  const { kinds, left } = JSON.parse(readFileSync(MISCHIEF, 'utf8')) as { kinds: string[]; left: number };
  if (left <= 0) return undefined;
  writeFileSync(MISCHIEF, JSON.stringify({ kinds, left: left - 1 }));
  return kinds[left % kinds.length];
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

function write(entry: object): void {
  appendFileSync(LEDGER, `${JSON.stringify(entry)}\n`);
}
