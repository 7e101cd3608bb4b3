import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import fc from 'fast-check';
import { harness } from '../../support/harness.ts';
import { openApp, type TestApp } from './app.ts';
import { credentialsOf, ENDPOINTS, type Endpoint, MINER, WATCHED } from './endpoints.ts';
import { stateDigest } from './snapshot.ts';

/** Not the one that administrators are hostile to: that one may get another key. */
const SESSION_MINER = 'miner-with-a-session';

/** Per run; a longer one is a matter of setting HOSTILE_RUNS. */
const RUNS = Number(process.env.HOSTILE_RUNS || 600);

const h = await harness();
let app: TestApp;
let token: string;
let digest: () => Promise<string>;

before(async () => {
  app = await openApp(h);
  token = await app.register(MINER);
  digest = await stateDigest(h);
});

/** Strings that mean something to Lua, Redis, SQL, JSON, shells, terminals, paths or JavaScript. */
const METACHARACTERS = [
  '',
  ' ',
  '\u0000',
  'a\u0000b',
  '\r\nSET x 1\r\n',
  '*3\r\n$3\r\nSET\r\n',
  ']] os.exit() --[[',
  "'; drop table poolhub.miners; --",
  '%s%n%d',
  '{0}:miner:x',
  'ph:{1}:x',
  '*',
  '[a-z]*?',
  '__proto__',
  'constructor',
  '../../etc/passwd',
  '\ud800',
  '\udfff\ud800',
  '\u202e\u200b\ufeff',
  '😀'.repeat(20),
  'e\u0301'.repeat(40),
  'x'.repeat(65),
  'x'.repeat(10_000),
  '1e999',
  '-0',
  'NaN',
  '9'.repeat(400),
  'true',
  'null',
  '-1-1',
  '99999999999999999999-99999999999999999999',
];

const NUMBERS = [
  0,
  -0,
  -1,
  0.1,
  1e-9,
  1e21,
  1e308,
  -1e308,
  5e-324,
  2 ** 31,
  2 ** 53,
  2 ** 63,
  2 ** 64,
  -(2 ** 53),
];

const leaf = fc.oneof(
  fc.constantFrom(...METACHARACTERS),
  fc.constantFrom(...NUMBERS),
  fc.string({ unit: 'binary', maxLength: 80 }),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.constantFrom(null, true, false),
);

const anyValue = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 6 }),
    fc.dictionary(fc.oneof(fc.constantFrom(...METACHARACTERS), fc.string({ maxLength: 8 })), tie('value'), {
      maxKeys: 5,
    }),
    fc.array(leaf, { minLength: 300, maxLength: 300 }),
  ),
})).value;

/** Every place inside of a body, as the keys that lead there. */
function placesIn(value: unknown, at: string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [at];
  return [at, ...Object.entries(value).flatMap(([key, inner]) => placesIn(inner, [...at, key]))];
}

function replaced(value: unknown, [key, ...rest]: string[], put: unknown): unknown {
  if (key === undefined) return put;
  if (Array.isArray(value))
    return value.map((item, i) => (String(i) === key ? replaced(item, rest, put) : item));
  const entries = Object.entries(value as object);
  return Object.fromEntries(
    entries.map(([name, inner]) => [name, name === key ? replaced(inner, rest, put) : inner]),
  );
}

/** A body with one place spoiled, another key, quite another body, or what is no JSON at all. */
function hostileBody(body: Record<string, unknown>): fc.Arbitrary<string> {
  const spoiled = fc
    .tuple(fc.constantFrom(...placesIn(body)), anyValue)
    .map(([place, put]) => JSON.stringify(replaced(body, place, put)) ?? 'null');
  const another = fc
    .tuple(fc.oneof(fc.constantFrom(...METACHARACTERS), fc.string()), anyValue)
    .map(([key, value]) =>
      JSON.stringify(body).replace(/}$/, `,${JSON.stringify(key)}:${JSON.stringify(value)}}`),
    );
  const rawNumbers = fc
    .tuple(
      fc.constantFrom(...Object.keys(body), 'x'),
      fc.constantFrom('NaN', 'Infinity', '-Infinity', '1e999', '-1e999', '0x1', '01', '9'.repeat(5000)),
    )
    .map(([key, number]) => JSON.stringify(body).replace(/}$/, `,"${key}":${number}}`));
  const deep = fc
    .tuple(fc.integer({ min: 1, max: 40_000 }), fc.constantFrom('[', '{"a":'))
    .map(([depth, open]) => `{"requirements":${open.repeat(depth)}`);
  return fc.oneof(
    { weight: 6, arbitrary: spoiled },
    another,
    rawNumbers,
    deep,
    anyValue.map((value) => JSON.stringify(value)),
    fc.string({ unit: 'binary' }),
  );
}

const hostileCall = fc.constantFrom(...ENDPOINTS).chain((endpoint) =>
  fc.record({
    endpoint: fc.constant(endpoint),
    body: hostileBody(endpoint.body ?? {}),
    id: fc.option(
      fc.oneof(fc.constantFrom(...METACHARACTERS), fc.string({ unit: 'binary', maxLength: 80 })),
      { freq: 4 },
    ),
    query: fc.option(
      fc.dictionary(
        fc.constantFrom('state', 'region', 'capability', 'tag', 'limit', 'cursor', 'session_token', 'x'),
        fc.constantFrom(...METACHARACTERS, '0.0', '0.99999', '999.1', '1'),
        { maxKeys: 3 },
      ),
      { freq: 3 },
    ),
    anonymous: fc.boolean(),
  }),
);

function pathOf(
  { path, pattern }: Endpoint,
  id: string | null,
  query: Record<string, string> | null,
): string {
  const named =
    id === null || pattern === undefined
      ? path
      : pattern.replace('{id}', () => encodeURIComponent(Buffer.from(id).toString()));
  return query === null ? named : `${named}?${new URLSearchParams(query)}`;
}

test(`${RUNS} hostile calls: never a 500, and a refusal changes nothing`, { timeout: 300_000 }, async () => {
  const property = fc.asyncProperty(hostileCall, async ({ endpoint, body, id, query, anonymous }) => {
    if (endpoint.who === 'miner') token = await app.register(SESSION_MINER);
    const headers = anonymous ? {} : credentialsOf(endpoint.who, token);
    const before = await digest();
    const sendsBody = endpoint.method !== 'GET';
    const answer = await app.call(endpoint.method, pathOf(endpoint, id, query), {
      headers,
      ...(sendsBody ? { body } : {}),
    });
    assert.ok(answer.status < 500, `${answer.status} ${answer.text}`);
    if (answer.status < 400) return;
    assert.equal(answer.json.error.request_id, answer.headers.get('X-Request-Id'));
    assert.equal(await digest(), before, `${answer.status}, and yet something changed: ${answer.text}`);
  });
  await fc.assert(property, { numRuns: RUNS, includeErrorInReport: true });
});

test('hostile headers are nobody, and never a 500', async () => {
  const values = [
    '',
    ' ',
    'Bearer',
    'Bearer ',
    'Bearer  x',
    'Basic eDp5',
    'Bearer phs_',
    'Bearer phs_AA.AA',
    `Bearer ${'x'.repeat(8000)}`,
    'bearer \u00ff',
  ];
  for (const { method, path, who, body } of ENDPOINTS) {
    if (who === 'anybody') continue;
    for (const value of values) {
      const headers = {
        Authorization: value,
        'X-Coordinator-Secret': value,
        'X-Admin-Key': value,
        'X-Miner-ID': value,
        'X-Forwarded-For': value,
      };
      const answer = await app.call(method, path, { headers, ...(body === undefined ? {} : { body }) });
      assert.equal(answer.status, 401, `${method} ${path} with ${JSON.stringify(value)}: ${answer.text}`);
    }
  }
});

test('hostile paths are 404, 405 or 422, and watchers stay up', async () => {
  for (const path of [
    '/%',
    '/%zz',
    '/v1/miners/%',
    '/v1/miners/%E0%A4%A',
    '//v1/match',
    '/v1/match/',
    '/docs/..%2f..%2fpackage.json',
    '/docs/package.json',
    '/docs/__proto__',
  ]) {
    const answer = await app.call('GET', path);
    assert.ok([401, 404, 405, 422].includes(answer.status), `${path}: ${answer.status} ${answer.text}`);
  }
  for (const path of WATCHED) assert.equal((await app.call('GET', path)).status, 200, path);
});
