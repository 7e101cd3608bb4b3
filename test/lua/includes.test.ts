import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { packageRoot } from '../../src/platform/paths.ts';
import { harness } from '../support/harness.ts';
import { runs } from '../support/properties.ts';

const h = await harness();

/** Runs some lines of Lua after includes, with `input` decoded from JSON; what they return is JSON. */
async function runLua(includes: readonly string[], body: string, input: unknown): Promise<unknown> {
  const folder = join(packageRoot, 'lua', 'include');
  const sources = includes.map((name) => readFileSync(join(folder, `${name}.lua`), 'utf8'));
  const script = [
    'local C = { strategies = {} }',
    ...sources,
    'local input = cjson.decode(ARGV[1])',
    body,
  ].join('\n');
  return JSON.parse((await h.redis.eval(script, 1, `${h.prefix}:{0}:`, JSON.stringify(input))) as string);
}

const finite = fc.double({ noNaN: true, noDefaultInfinity: true });

test('a number written as text reads back as the same double', async () => {
  const body = `
    local out = {}
    for i, digits in ipairs(input) do out[i] = text_of(tonumber(digits)) end
    return cjson.encode(out)`;
  const property = fc.asyncProperty(fc.array(finite, { minLength: 1, maxLength: 50 }), async (numbers) => {
    const texts = (await runLua(['base'], body, numbers.map(String))) as string[];
    assert.deepEqual(
      texts.map((text) => Number(text) + 0),
      numbers.map((number) => number + 0),
    );
  });
  await fc.assert(property, runs(200));
});

test('shares are rounded to six decimals', async () => {
  const shares = [0, 1, 0.5, 1 / 3, 2 / 3, 0.0000004, 0.0000005, 0.9999996];
  const body = `
    local out = {}
    for i, share in ipairs(input) do out[i] = text_of(micro(share)) end
    return cjson.encode(out)`;
  assert.deepEqual(await runLua(['base'], body, shares), [
    '0',
    '1',
    '0.5',
    '0.333333',
    '0.666667',
    '0',
    '1e-06',
    '1',
  ]);
});

test('a logarithmic bin and its eighth hold the values from their floor on, and bins never fall as values rise', async () => {
  const body = `
    local out = {}
    for i, value in ipairs(input) do
      local bin, eighth = log_bin(value, PRICE_UNIT)
      local high = eighth < 7 and log_bin_floor(bin, eighth + 1, PRICE_UNIT) or log_bin_floor(bin + 1, 0, PRICE_UNIT)
      out[i] = { bin, eighth, log_bin_floor(bin, eighth, PRICE_UNIT) <= value,
        bin == TOP_BIN or value <= (bin == 0 and PRICE_UNIT or high * (1 + 1e-9)) }
    end
    return cjson.encode(out)`;
  const prices = fc.array(fc.double({ min: 0, max: 1e9, noNaN: true }), { minLength: 2, maxLength: 50 });
  const property = fc.asyncProperty(prices, async (values) => {
    const sorted = values.toSorted((a, b) => a - b);
    const bins = (await runLua(['base', 'bins', 'terms'], body, sorted)) as [
      number,
      number,
      boolean,
      boolean,
    ][];
    let last = 0;
    for (const [i, [bin, eighth, above, below]] of bins.entries()) {
      assert.ok(above && below, `${sorted[i]} is not in eighth ${eighth} of bin ${bin}`);
      assert.ok(bin >= 0 && bin <= 127 && eighth >= 0 && eighth <= 7);
      assert.ok(bin * 8 + eighth >= last);
      last = bin * 8 + eighth;
    }
  });
  await fc.assert(property, runs(200));
});

test('whole GB have two digits of base 64, and unknown sizes none', async () => {
  const body = `
    local out = {}
    for i, gb in ipairs(input) do
      local terms = {}
      add_size_terms(terms, 'vram', gb)
      out[i] = table.concat(terms, ' ')
    end
    return cjson.encode(out)`;
  assert.deepEqual(
    await runLua(['base', 'bins', 'terms'], body, [-1, 0, 0.9, 24.75, 63, 64, 141, 4095, 1_000_000]),
    [
      '',
      'vram-hi:0 vram-lo:0',
      'vram-hi:0 vram-lo:0',
      'vram-hi:0 vram-lo:24',
      'vram-hi:0 vram-lo:63',
      'vram-hi:1 vram-lo:0',
      'vram-hi:2 vram-lo:13',
      'vram-hi:63 vram-lo:63',
      'vram-hi:63 vram-lo:63',
    ],
  );
});

test('a region stands for each of its dash prefixes', async () => {
  const body = `
    local out = {}
    for _, region in ipairs(input) do
      local profile = { accel = {}, tags = {}, capabilities = {}, gpu_key = '', region = region, vram = -1, ram = -1 }
      out[#out + 1] = table.concat(static_terms(profile), ' ')
    end
    return cjson.encode(out)`;
  assert.deepEqual(await runLua(['base', 'bins', 'terms'], body, ['eu', 'eu-west-1']), [
    'all region:eu task-any',
    'all region:eu region:eu-west region:eu-west-1 task-any',
  ]);
});
