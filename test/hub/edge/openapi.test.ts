import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { COORDINATOR, openApp, PROFILE, type TestApp } from './app.ts';

interface Operation {
  summary: string;
  tags: string[];
  requestBody?: { content: Record<string, { schema: object }> };
  responses: Record<string, { content?: Record<string, { schema: object }> }>;
}

interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<
      string,
      { properties?: object; required?: string[]; additionalProperties?: boolean; examples?: unknown[] }
    >;
  };
}

const h = await harness();
let app: TestApp;
let document: Document;
before(async () => {
  app = await openApp(h);
  document = (await app.call('GET', '/openapi.json')).json;
});

test('every operation says what it does, takes and answers', () => {
  assert.match(document.openapi, /^3\.1/);
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const [method, { summary, tags, responses }] of Object.entries(operations)) {
      const name = `${method} ${path}`;
      assert.ok(summary.length > 5 && tags.length === 1, name);
      assert.ok(
        Object.keys(responses).some((status) => status.startsWith('2')),
        name,
      );
      for (const [status, { content }] of Object.entries(responses)) assert.ok(content, `${name} ${status}`);
    }
  }
});

test('every reference leads somewhere', () => {
  const references = JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g);
  for (const [, name] of references) assert.ok(document.components.schemas[name as string], name);
});

test('the schemas are those that calls are checked with', () => {
  const { MatchRequest, RegisterRequest, Error: ErrorBody } = document.components.schemas;
  assert.equal(MatchRequest?.additionalProperties, false);
  assert.ok(MatchRequest?.properties && 'requirements' in MatchRequest.properties);
  assert.ok(RegisterRequest?.properties && 'price_token_per_ksec' in RegisterRequest.properties);
  assert.ok(ErrorBody?.examples?.length);
});

test('the example of a match is a match that is taken', async () => {
  const [example] = document.components.schemas.MatchRequest?.examples ?? [];
  const answer = await app.call('POST', '/v1/match', { headers: COORDINATOR, body: example });
  assert.equal(answer.status, 200, answer.text);
});

/** Every call of these tests is held against the document, so a body that is taken must be one that it describes. */
test('every way to write a registration is documented', async () => {
  const { price_token_per_ksec, gpu_vram, ...rest } = PROFILE;
  const profiles = [
    { ...rest, miner_id: 'aliases', base_price: price_token_per_ksec, gpu_vram_gb: gpu_vram },
    { ...PROFILE, miner_id: 'pairs', tags: { zone: 'a', rack: 7, fast: true }, accel: 'cuda' },
    { ...PROFILE, miner_id: 'lists', accel: ['cuda', 'CUDA', 'vulkan'] },
    { ...PROFILE, miner_id: 'nulls', gpu_vram: null, tags: null, accel: null, region: null },
  ];
  for (const body of profiles) {
    const answer = await app.call('POST', '/v1/miners/register', { body });
    assert.equal(answer.status, 200, `${body.miner_id}: ${answer.text}`);
  }
  const required = document.components.schemas.RegisterRequest?.required ?? [];
  assert.ok(required.includes('addr') && !required.includes('price_token_per_ksec'), required.join());
});

test('null is left out, wherever a match may leave something out', async () => {
  const body = { job_id: 'nulls', requirements: null, hints: null, top_k: null, reserve: null };
  const answer = await app.call('POST', '/v1/match', { headers: COORDINATOR, body });
  assert.equal(answer.status, 200, answer.text);
});

test('/docs needs nothing from elsewhere and runs nothing inline', async () => {
  const root = await app.call('GET', '/');
  assert.deepEqual([root.status, root.headers.get('Location')], [302, '/docs']);
  const page = await app.call('GET', '/docs');
  assert.equal(page.status, 200);
  assert.match(page.headers.get('Content-Security-Policy') ?? '', /script-src 'self'; style-src 'self'/);
  assert.doesNotMatch(page.text, /https?:\/\/|<script>|<style>| style=| on\w+=/);
  for (const [, file] of page.text.matchAll(/(?:src|href)="(?!data:)([^"]+)"/g)) {
    const asset = await app.call('GET', file as string);
    assert.equal(asset.status, 200, file);
    assert.match(asset.headers.get('Content-Type') ?? '', /^text\/(css|javascript)/);
    assert.ok(asset.text.length > 50);
  }
});
