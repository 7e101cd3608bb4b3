import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ownSettings } from '../../src/coordinator/environment.ts';
import { ConfigError, loadConfig } from '../../src/platform/config.ts';
import { describeSettings } from '../../src/platform/environment.ts';
import { packageRoot } from '../../src/platform/paths.ts';

const REQUIRED = {
  DB_DSN: 'postgres://poolhub@127.0.0.1/poolhub',
  REDIS_URL: 'redis://127.0.0.1:6379',
  COORDINATOR_SHARED_SECRET: 'one-secret, another-secret',
  ADMIN_API_KEY: 'an-admin-key',
  API_KEY_PEPPER: 'pepper-of-sixteen-or-more',
};

function problemsOf(env: Record<string, string | undefined>): ConfigError['problems'] {
  try {
    loadConfig(env);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

test('the defaults are those of the contract', () => {
  const config = loadConfig(REQUIRED);
  assert.equal(config.poolhub_bind, '127.0.0.1');
  assert.equal(config.poolhub_port, 8203);
  assert.equal(config.session_ttl_sec, 60);
  assert.equal(config.heartbeat_grace_sec, 120);
  assert.equal(config.miner_enrollment, 'closed');
  assert.deepEqual(config.coordinator_shared_secret, ['one-secret', 'another-secret']);
  assert.deepEqual(config.strategies.balanced, {
    cap: 0.4,
    price: 0.2,
    latency: 0.2,
    trust: 0.15,
    load: 0.05,
  });
  assert.deepEqual(Object.keys(config.strategies), ['balanced', 'cheapest', 'fastest', 'trusted']);
  for (const weights of Object.values(config.strategies)) {
    const sum = Object.values(weights).reduce((total, weight) => total + weight, 0);
    assert.ok(Math.abs(sum - 1) < 1e-12, `weights sum to ${sum}`);
  }
});

test('settings cannot be changed afterwards, at any depth', () => {
  const config = loadConfig(REQUIRED) as unknown as {
    strategies: { balanced: { cap: number } };
    admin_api_key: string[];
  };
  assert.throws(() => config.admin_api_key.push('another'), TypeError);
  assert.throws(() => {
    config.strategies.balanced.cap = 1;
  }, TypeError);
});

const BAD: ReadonlyArray<readonly [name: string, value: string, why: RegExp]> = [
  ['POOLHUB_BIND', 'no spaces please', /address or host name/],
  ['POOLHUB_PORT', '65536', /at most 65535/],
  ['POOLHUB_PORT', '-1', /whole number/],
  ['POOLHUB_PORT', '8203.5', /whole number/],
  ['POOLHUB_PORT', '0x10', /whole number/],
  ['WORKER_PORT', 'http', /whole number/],
  ['LOG_LEVEL', 'loud', /one of trace/],
  ['DB_DSN', 'mysql://somewhere', /postgres:/],
  ['DB_DSN', 'not a url', /postgres:/],
  ['DB_POOL_MAX', '0', /at least 1/],
  ['REDIS_URL', 'http://127.0.0.1', /redis:/],
  ['REDIS_CLUSTER_NODES', 'a:1,b', /host:port/],
  ['REDIS_CLUSTER_NODES', 'a:70000', /host:port/],
  ['REDIS_PREFIX', 'a{b}', /letters, digits/],
  ['REDIS_SHARDS', '1025', /at most 1024/],
  ['COORDINATOR_SHARED_SECRET', ' , ', /at least 1/],
  ['COORDINATOR_ALLOWLIST', '10.0.0.0/33', /not an address or CIDR/],
  ['COORDINATOR_ALLOWLIST', '10.0.0.0/8/8', /not an address or CIDR/],
  ['COORDINATOR_ALLOWLIST', 'fe80::/129', /not an address or CIDR/],
  ['TRUSTED_PROXIES', 'proxy.internal', /not an address or CIDR/],
  ['API_KEY_PEPPER', 'short', /16 to 256/],
  ['MINER_ENROLLMENT', 'ajar', /closed, open/],
  ['SESSION_TTL_SEC', '0', /at least 1/],
  ['SELF_PRESERVATION_PCT', '101', /at most 100/],
  ['DEFAULT_REGION', 'über', /letters, digits/],
  ['DEFAULT_WEIGHTS', 'cap:0.5,price:0.5', /must name cap, price/],
  ['DEFAULT_WEIGHTS', 'cap:0.4,price:0.2,latency:0.2,trust:0.15,load:0.06', /sum to 1, they sum to 1.01/],
  ['DEFAULT_WEIGHTS', 'cap:0.4,cap:0.2,latency:0.2,trust:0.15,load:0.05', /cap twice/],
  ['DEFAULT_WEIGHTS', 'cap:-0.4,price:1,latency:0.2,trust:0.15,load:0.05', /cap must be a number/],
  ['STRATEGIES', 'Loud=cap:1,price:0,latency:0,trust:0,load:0', /strategy name/],
  ['STRATEGIES', 'eager=cap:1', /eager: must name/],
  ['STRATEGIES', 'balanced=cap:1,price:0,latency:0,trust:0,load:0', /DEFAULT_WEIGHTS/],
  ['TRUST_HALF_LIFE_DAYS', '1e3', /plain decimal/],
  ['BILLING_PRICE_GPU_HOURS', '0.123456789', /at most 8 decimals/],
  ['BILLING_PRICE_API_CALLS', '-1', /decimal/],
  ['COORDINATOR_BILLING_URL', 'ftp://billing.internal', /http: or https:/],
  ['COORDINATOR_BILLING_URL', 'http://user:password@billing.internal', /without a user and password/],
  ['BILLING_SYNC_INTERVAL_HOURS', '0', /at least/],
  ['MAX_BODY_BYTES', '10', /at least 1024/],
  ['RATE_LIMIT_MATCH_PER_SEC', '0', /at least 1/],
];

for (const [name, value, why] of BAD) {
  test(`${name}=${value} is refused by its name`, () => {
    const problems = problemsOf({ ...REQUIRED, [name]: value });
    assert.deepEqual(
      problems.map((problem) => problem.name),
      [name],
    );
    assert.match(problems[0]?.why ?? '', why);
  });
}

test('a coordinator to bill is one with a key', () => {
  const billed = { ...REQUIRED, COORDINATOR_BILLING_URL: 'http://127.0.0.1:8011' };
  assert.deepEqual(problemsOf(billed), [
    { name: 'COORDINATOR_API_KEY', why: 'is required with COORDINATOR_BILLING_URL' },
  ]);
  assert.deepEqual(problemsOf({ ...billed, COORDINATOR_API_KEY: 'key' }), []);
});

test('at most eight strategies', () => {
  const weights = 'cap:1,price:0,latency:0,trust:0,load:0';
  const named = (count: number) => Array.from({ length: count }, (_, i) => `s${i}=${weights}`).join(';');
  assert.equal(Object.keys(loadConfig({ ...REQUIRED, STRATEGIES: named(4) }).strategies).length, 8);
  assert.deepEqual(
    problemsOf({ ...REQUIRED, STRATEGIES: named(5) }).map(({ name }) => name),
    ['STRATEGIES'],
  );
});

test('everything that is missing is named at once, and an empty value is missing', () => {
  const names = problemsOf({ ADMIN_API_KEY: '  ' }).map((problem) => problem.name);
  assert.deepEqual(names.sort(), [
    'ADMIN_API_KEY',
    'API_KEY_PEPPER',
    'COORDINATOR_SHARED_SECRET',
    'DB_DSN',
    'REDIS_URL',
  ]);
});

test('a cluster needs no REDIS_URL', () => {
  const { REDIS_URL, ...rest } = REQUIRED;
  assert.deepEqual(problemsOf({ ...rest, REDIS_CLUSTER_NODES: 'a:7000,b:7001' }), []);
});

test('no value of a secret is in a message', () => {
  const secret = 'hunter2hunter2';
  const env = {
    DB_DSN: `mysql://user:${secret}@host`,
    REDIS_URL: `http://:${secret}@host`,
    API_KEY_PEPPER: secret,
    COORDINATOR_SHARED_SECRET: Array.from({ length: 17 }, (_, i) => `${secret}${i}`).join(','),
    ADMIN_API_KEY: Array.from({ length: 17 }, (_, i) => `${secret}${i}`).join(','),
  };
  const problems = problemsOf(env);
  assert.equal(problems.length, 5);
  assert.doesNotMatch(JSON.stringify(problems), new RegExp(secret));
});

test('.env.example lists every setting with its meaning and default, in order', () => {
  const example = readFileSync(join(packageRoot, '.env.example'), 'utf8');
  const listed = [...example.matchAll(/^# (.+)\n#([A-Z_0-9]+)=(.*)$/gm)].map(([, doc, name, value]) => ({
    name,
    doc,
    value,
  }));
  const settings = [...describeSettings(), ...describeSettings(ownSettings)];
  const expected = settings.map(({ name, doc, required, default: value }) => ({
    name,
    doc: `${doc}${required ? ' (required)' : ''}`,
    value: value ?? '',
  }));
  assert.deepEqual(listed, expected);
});
