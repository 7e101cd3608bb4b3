import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { main } from '../../src/cli/main.ts';
import { createSigner } from '../../src/coordinator/receipts/ed25519.ts';
import { receiptSigners, signReceipt } from '../../src/coordinator/receipts/receipt.ts';
import { listen } from '../../src/platform/http.ts';
import { jobOf, OTHER_SEED, outcomeOf, SIGNING_SEED } from './settlement-world.ts';

const signers = receiptSigners({
  receipt_signing_key_hex: SIGNING_SEED,
  receipt_attestation_key_hex: OTHER_SEED,
});
assert.ok(signers !== undefined);
const { text: good, receiptId } = signReceipt(signers, jobOf(), outcomeOf());
const bad = good.replace('"n":1e16', '"n":1e17');
const keys = [createSigner(SIGNING_SEED).keyId, createSigner(OTHER_SEED).keyId];

let folder: string;
let server: Server;
let url: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'receipts-'));
  server = createServer((request, response) => {
    if (request.url === '/keys') response.end(JSON.stringify({ keys: keys.map((key_id) => ({ key_id })) }));
    else if (request.url === '/elsewhere') response.writeHead(302, { Location: '/receipt' }).end();
    else if (request.headers['x-api-key'] !== 'a-key') response.writeHead(401).end();
    else response.end(`{"result":{"ok":1.0},"receipt":${good}}`);
  });
  url = await listen(server, '127.0.0.1', 0);
});

after(async () => {
  await rm(folder, { recursive: true });
  server.closeAllConnections();
  server.close();
});

async function file(name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

async function verify(...args: string[]): Promise<{ code: number; out: string; notes: string }> {
  const [out, notes]: [string[], string[]] = [[], []];
  const code = await main(['receipts', 'verify', ...args], {
    env: { MY_KEY: 'a-key' },
    out: (line) => void out.push(line),
    note: (line) => void notes.push(line),
    stopSignal: () => new AbortController().signal,
  });
  return { code, out: out.join('\n'), notes: notes.join('\n') };
}

test('a receipt that holds, under keys that are trusted', async () => {
  const path = await file('good.json', good);
  const [signing = '', attesting = ''] = keys;
  const { code, out, notes } = await verify(
    path,
    '--key',
    signing,
    '--key',
    Buffer.from(attesting, 'base64url').toString('hex'),
  );
  assert.equal(code, 0);
  assert.ok(out.startsWith(`valid: receipt ${receiptId} `), out);
  assert.equal(notes, '');
  const { valid, problems } = JSON.parse((await verify(path, '--keys', `${url}/keys`, '--json')).out);
  assert.deepEqual([valid, problems], [true, []]);
});

test('without a key the signature is checked, and what was not is said', async () => {
  const { code, notes } = await verify(await file('any.json', good));
  assert.equal(code, 0);
  assert.match(notes, /whose keys these are was not checked/);
});

test('a receipt that was changed, and one of a stranger', async () => {
  const changed = await verify(await file('bad.json', bad), '--keys', `${url}/keys`);
  assert.equal(changed.code, 1);
  assert.match(changed.out, /^NOT VALID: [\s\S]*the signature is not that of these bytes/);
  const stranger = await verify(await file('good2.json', good), '--key', createSigner('01'.repeat(32)).keyId);
  assert.equal(stranger.code, 1);
  assert.match(stranger.out, /the signing key is not known/);
});

test('a page of history: each receipt is checked', async () => {
  const { code, out } = await verify(await file('page.json', `{"items":[${good},${bad}]}`), '--json');
  assert.equal(code, 1);
  assert.deepEqual(
    out.split('\n').map((line) => JSON.parse(line).valid),
    [true, false],
  );
});

test('the answer to a result, from a URL that wants a key', async () => {
  assert.equal((await verify(`${url}/result`, '--api-key-env', 'MY_KEY')).code, 0);
  const refused = await verify(`${url}/result`);
  assert.deepEqual([refused.code, /answers 401/.test(refused.notes)], [1, true]);
  assert.equal((await verify(`${url}/elsewhere`, '--api-key-env', 'MY_KEY')).code, 1);
});

test('whatever else is given is explained in a line', async () => {
  const cases: ReadonlyArray<readonly [args: string[], code: number, note: RegExp]> = [
    [[], 2, /needs <file\|url>/],
    [[join(folder, 'none.json')], 1, /cannot be read: ENOENT/],
    [[folder], 1, /cannot be read: EISDIR/],
    [[await file('no.json', 'no')], 1, /is not JSON/],
    [[await file('list.json', '[]')], 1, /no receipt in the input/],
    [[await file('number.json', '1')], 1, /no receipt in the input/],
    [['http://127.0.0.1:1/'], 1, /cannot be asked/],
    [[await file('k.json', good), '--key', 'short'], 2, /--key must be/],
    [[await file('k2.json', good), '--keys', 'ftp://x'], 2, /is no http URL/],
    [[await file('k3.json', good), '--keys', `${url}/nothing`], 1, /answers 401/],
    [[`${url}/x`, '--api-key-env', 'NOT_SET'], 2, /has no NOT_SET/],
  ];
  for (const [args, code, note] of cases) {
    const result = await verify(...args);
    assert.equal(result.code, code, `${args}: ${result.notes}`);
    assert.match(result.notes, note);
    assert.equal(result.notes.split('\n').length, 1, result.notes);
  }
  assert.equal((await verify(await file('empty.json', '{}'))).code, 1);
});
