import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { ADMIN, type Answer, COORDINATOR, openApp, type TestApp } from './app.ts';
import { credentialsOf, ENDPOINTS, type Endpoint, MINER, WATCHED, type Who } from './endpoints.ts';
import { stateDigest } from './snapshot.ts';

const h = await harness();
let app: TestApp;
let token: string;
let digest: () => Promise<string>;

before(async () => {
  app = await openApp(h, { MAX_BODY_BYTES: '4096' });
  token = await app.register(MINER);
  digest = await stateDigest(h);
});

/** Sends a spoiled call and demands the refusal, its envelope, and that nothing has changed. */
async function refused(
  endpoint: Endpoint,
  spoiled: { headers?: Record<string, string>; body?: unknown },
  status: number,
  code: string,
): Promise<Answer> {
  const headers = spoiled.headers ?? credentialsOf(endpoint.who, token);
  const body = 'body' in spoiled ? spoiled.body : endpoint.body;
  const before = await digest();
  const answer = await app.call(endpoint.method, endpoint.path, {
    headers,
    ...(body === undefined ? {} : { body }),
  });
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.json.error.code, code);
  assert.equal(answer.json.error.request_id, answer.headers.get('X-Request-Id'));
  assert.equal(typeof answer.json.error.message, 'string');
  assert.equal(await digest(), before, 'a refusal changed something');
  return answer;
}

test('the table has every call of the OpenAPI document', async () => {
  const { json } = await app.call('GET', '/openapi.json');
  const documented = Object.entries(json.paths as Record<string, object>).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const listed = [
    ...ENDPOINTS.map(({ method, path, pattern }) => `${method} ${pattern ?? path}`),
    ...WATCHED.map((path) => `GET ${path}`),
  ];
  assert.deepEqual(documented.sort(), listed.sort());
});

test('the OpenAPI document says of every call who may make it', async () => {
  const { json } = await app.call('GET', '/openapi.json');
  const schemes: Record<Who, string[]> = {
    coordinator: ['CoordinatorSecret', 'Bearer'],
    admin: ['AdminKey', 'Bearer'],
    either: ['CoordinatorSecret', 'Bearer', 'AdminKey'],
    miner: ['Bearer'],
    anybody: [],
  };
  for (const { method, path, pattern, who } of ENDPOINTS) {
    const { security } = json.paths[pattern ?? path][method.toLowerCase()];
    const named = new Set((security as object[]).flatMap((scheme) => Object.keys(scheme)));
    assert.deepEqual([...named], schemes[who], `${method} ${path}`);
  }
});

for (const endpoint of ENDPOINTS) {
  const { method, path, pattern, who, body } = endpoint;
  const name = `${method} ${pattern ?? path}`;

  if (who !== 'anybody') {
    test(`${name} without credentials is 401`, async () => {
      await refused(endpoint, { headers: {} }, 401, 'unauthenticated');
    });
  }

  if (who === 'miner') {
    test(`${name} with a session nobody has is 401`, async () => {
      const stranger = `${token.slice(0, -8)}AAAAAAAA`;
      await refused(endpoint, { headers: { Authorization: `Bearer ${stranger}` } }, 401, 'session_unknown');
    });
  }

  if (who === 'coordinator' || who === 'admin') {
    const header = Object.keys(who === 'admin' ? ADMIN : COORDINATOR)[0] ?? '';
    const [own, other] = who === 'admin' ? [ADMIN, COORDINATOR] : [COORDINATOR, ADMIN];
    test(`${name} with a wrong secret is 401`, async () => {
      const secret = Object.values(own)[0] ?? '';
      for (const wrong of [`${secret}x`, secret.slice(1), 'x', token]) {
        await refused(endpoint, { headers: { [header]: wrong } }, 401, 'unauthenticated');
        await refused(endpoint, { headers: { Authorization: `Bearer ${wrong}` } }, 401, 'unauthenticated');
      }
    });
    test(`${name} with the secret of another role is 403`, async () => {
      await refused(endpoint, { headers: other }, 403, 'forbidden');
      await refused(
        endpoint,
        { headers: { Authorization: `Bearer ${Object.values(other)[0]}` } },
        403,
        'forbidden',
      );
    });
  }

  if (body !== undefined) {
    test(`${name} with what is no JSON is 400`, async () => {
      for (const text of [
        '',
        '{',
        '{"a":}',
        'NaN',
        `{"a": ${'['.repeat(100)}${']'.repeat(100)}}`,
        "{'a':1}",
      ]) {
        await refused(endpoint, { body: text }, 400, 'bad_json');
      }
    });
    test(`${name} with a body that is no object is 422`, async () => {
      for (const text of ['null', '[]', '[{}]', '1', '"text"', 'true']) {
        await refused(endpoint, { body: text }, 422, 'invalid');
      }
    });
    test(`${name} with a wrong type in any field is 422 and names it`, async () => {
      for (const field of Object.keys(body)) {
        const answer = await refused(
          endpoint,
          { body: { ...body, [field]: [{ wrong: 'phk_secret' }] } },
          422,
          'invalid',
        );
        const paths = (answer.json.error.details as { path: string }[]).map((detail) => detail.path);
        assert.ok(
          paths.some((failing) => failing === field || failing.startsWith(`${field}.`)),
          answer.text,
        );
        assert.doesNotMatch(answer.text, /phk_secret/);
      }
    });
    test(`${name} with an unknown key is 422 and names it`, async () => {
      for (const key of ['no_such_key', '__proto__', 'constructor']) {
        const text = `{"${key}":"phk_secret",${JSON.stringify(body).slice(1).replace(/^}/, '"x":1}')}`;
        const answer = await refused(endpoint, { body: text }, 422, 'invalid');
        assert.ok(
          (answer.json.error.details as { path: string }[]).some((detail) => detail.path === key),
          answer.text,
        );
        assert.doesNotMatch(answer.text, /phk_secret/);
      }
    });
    test(`${name} with too large a body is 413`, async () => {
      const text = JSON.stringify({ ...body, padding: 'x'.repeat(4096) });
      await refused(endpoint, { body: text }, 413, 'too_large');
      const told = { ...credentialsOf(who, token), 'Content-Length': String(text.length) };
      await refused(endpoint, { body: text, headers: told }, 413, 'too_large');
    });
  }

  if (body === undefined && method !== 'GET') {
    test(`${name} with too large a body is 413, though it takes none`, async () => {
      await refused(endpoint, { body: 'x'.repeat(5000) }, 413, 'too_large');
    });
  }

  test(`${name} by another method is 405`, async () => {
    const answer = await app.call('PATCH', path, { headers: credentialsOf(who, token) });
    assert.equal(answer.status, 405, answer.text);
    assert.equal(answer.json.error.code, 'not_found');
    assert.ok(answer.headers.get('Allow')?.includes(method), answer.headers.get('Allow') ?? 'no Allow');
  });
}

test('a body that is not UTF-8 is 400: two ids must not become one', async () => {
  const before = await digest();
  for (const { method, path, who, body } of ENDPOINTS) {
    if (body === undefined) continue;
    const text = JSON.stringify(body).replace('{', '{"x":"\u00ff",');
    const answer = await app.call(method, path, {
      headers: credentialsOf(who, token),
      body: Buffer.from(text, 'latin1'),
    });
    assert.equal(answer.json.error.code, 'bad_json', `${method} ${path}: ${answer.text}`);
  }
  assert.equal(await digest(), before);
});

test('ids in paths are checked like any other input', async () => {
  for (const id of ['%00', '%20', 'a%2Fb', '..%2F..', 'x'.repeat(65), '%7B1%7D', '*', '%F0%9F%98%80']) {
    for (const { method, pattern, body, who } of ENDPOINTS) {
      if (pattern === undefined) continue;
      const answer = await app.call(method, pattern.replace('{id}', id), {
        headers: credentialsOf(who, token),
        ...(body === undefined ? {} : { body }),
      });
      const expected = pattern.includes('reservations') && /^x+$/.test(id) ? 404 : 422;
      assert.equal(answer.status, expected, `${method} ${pattern} with ${id}: ${answer.text}`);
    }
  }
});

test('queries are checked like any other input', async () => {
  const bad = [
    'state=gone',
    'limit=0',
    'limit=501',
    'limit=x',
    'cursor=*',
    'cursor=1.x',
    'nope=1',
    'tag=a&tag=b',
    'region=%00',
  ];
  for (const query of bad) {
    const answer = await app.call('GET', `/v1/miners?${query}`, { headers: ADMIN });
    assert.equal(answer.status, 422, `${query}: ${answer.text}`);
  }
});

test('every call with everything in order is answered', async () => {
  const last = ['POST /v1/miners/logout', `DELETE /v1/miners/${MINER}`];
  // These need a reservation, or a coordinator that bills.
  const other = /reservations|billing\/(sync|invoice)/;
  for (const { method, path, who, body } of ENDPOINTS) {
    if (last.includes(`${method} ${path}`) || other.test(path)) continue;
    const answer = await app.call(method, path, {
      headers: credentialsOf(who, token),
      ...(body === undefined ? {} : { body }),
    });
    assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.text}`);
    if (path === '/v1/miners/register') token = answer.json.session_token;
  }
  for (const path of WATCHED) assert.equal((await app.call('GET', path)).status, 200, path);
});
