import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../src/platform/paths.ts';
import { argumentLocals, callsOf, headerOf } from './support/lua-scripts.ts';
import { exportsOf, importsOf, read, readSources, type SourceFile } from './support/source.ts';

// Sizes of files and functions, import cycles, barrels and focused tests are rules of the linter (biome.json).

const MAX_LINES = 300;
const folders = ['src', 'test', 'bench'].filter((folder) => existsSync(join(packageRoot, folder)));
const sources = readSources(folders, ['.ts', '.mjs']);
const production = sources.filter(({ path }) => path.startsWith('src/'));
const lua = readSources(['lua'], ['.lua']);
const scripts = lua.filter(({ path }) => !path.startsWith('lua/include/'));

/** Which parts a part may use, beside itself and packages. */
const MAY_IMPORT: Record<string, string[]> = {
  platform: [],
  embedded: ['platform'],
  hub: ['platform'],
  sdk: [],
  coordinator: ['platform', 'sdk'],
  cli: ['platform', 'sdk', 'hub', 'coordinator', 'embedded'],
  bin: ['platform', 'sdk', 'hub', 'coordinator', 'embedded', 'cli'],
};

/** The SDK shares schemas, types and the reading of answers with the server, and nothing else. */
const SHARED_WITH_SDK = /^src\/(hub\/\w+\/schema|platform\/(fields|retry-after))\.ts$/;

test('imports go down, never up', () => {
  const wrong = production.flatMap((file) => importsOf(file).map((found) => upward(file.path, found)));
  assert.deepEqual(
    wrong.filter((problem) => problem !== undefined),
    [],
  );
});

function upward(
  path: string,
  { target, typeOnly }: { target: string; typeOnly: boolean },
): string | undefined {
  if (/^(test|bench)\//.test(target)) return `${path} imports ${target}`;
  const [, from = ''] = path.split('/');
  const [root, to = ''] = target.split('/');
  if (root !== 'src') return undefined;
  if (from === 'sdk' && (typeOnly || SHARED_WITH_SDK.test(target))) return undefined;
  if (from !== to && !MAY_IMPORT[from]?.includes(to)) return `${path} imports ${target}`;
  const inArea = /^src\/(hub|coordinator)\/\w+\//.test(path);
  return inArea && /^src\/\w+\/app\.ts$/.test(target) ? `${path} imports ${target}` : undefined;
}

test('every export is used by another file', () => {
  const used = new Map<string, Set<string>>();
  const config = existsSync(join(packageRoot, 'drizzle.config.ts')) ? [read('drizzle.config.ts')] : [];
  for (const file of [...sources, ...config]) {
    for (const { target, names } of importsOf(file)) {
      const known = used.get(target) ?? new Set();
      for (const name of names) known.add(name);
      used.set(target, known);
    }
  }
  const dead = production.flatMap((file) => {
    // Entry points are used by npm, and tables by the migration generator.
    if (/^src\/bin\/|\/tables\.ts$/.test(file.path)) return [];
    const names = used.get(file.path) ?? new Set();
    if (names.has('*')) return [];
    return exportsOf(file)
      .filter(({ name, isType }) => !names.has(name) && !(isType && mentions(file, name) > 1))
      .map(({ name }) => `${file.path}: ${name}`);
  });
  assert.deepEqual(dead, []);
});

function mentions({ text }: SourceFile, name: string): number {
  return text.match(new RegExp(`\\b${name}\\b`, 'g'))?.length ?? 0;
}

test('every script says what it is for, takes and returns, and names its arguments so', () => {
  for (const file of scripts) {
    const header = headerOf(file);
    assert.ok(header.purpose.length > 20, `${file.path}: purpose`);
    assert.ok(header.hasKeys, `${file.path}: KEYS`);
    assert.ok(header.hasReturns, `${file.path}: RETURNS`);
    const locals = argumentLocals(file);
    for (const [at, argument] of header.arguments.entries()) {
      const where = `${file.path}: ARGV[${argument.index}]`;
      assert.equal(argument.index, at + 1, `${where} is out of order`);
      if (argument.rest) {
        assert.equal(at, header.arguments.length - 1, `${where} is not the last`);
        assert.match(
          file.text,
          new RegExp(`^local FIRST_\\w+(?:, \\w+)* = ${argument.index}\\b`, 'm'),
          where,
        );
      } else if (!argument.unused) {
        const local = locals.get(argument.index);
        assert.ok(
          local === argument.name || local?.startsWith(`${argument.name}_`),
          `${where} is "${local}"`,
        );
      }
    }
    const highest = Math.max(0, ...locals.keys());
    assert.ok(highest <= header.arguments.length, `${file.path}: ARGV[${highest}] is not in the header`);
  }
});

test('every script has one caller, which passes what its header lists', () => {
  for (const file of scripts) {
    const name = file.path.slice('lua/'.length, -'.lua'.length);
    const calls = production.flatMap((source) => callsOf(name, source));
    const callers = new Set(calls.map(({ path }) => path));
    assert.equal(callers.size, 1, `${name} is called in ${[...callers].join(', ') || 'no file'}`);
    const { arguments: expected } = headerOf(file);
    const rest = expected.at(-1)?.rest ?? false;
    for (const call of calls) {
      // The executor itself passes the clock, ARGV[1].
      assert.equal(call.values, expected.length - 1 - (rest ? 1 : 0), `${name} in ${call.path}`);
      assert.equal(call.spread, rest, `${name} in ${call.path}`);
    }
  }
});

test('Lua files stay small', () => {
  for (const { path, text } of lua) assert.ok(text.split('\n').length <= MAX_LINES + 1, path);
});

test('nothing is left over: marks, paths of one machine, download hosts', () => {
  const marks = new RegExp(
    `\\b(${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'not ' + 'implemented'].join('|')})\\b`,
  );
  const machinePaths = /\/(?:w[o]rk|f[a]rm|hom[e]\/\w+)\/|\/tmp\/bash/;
  const tracked = trackedFiles();
  assert.ok(tracked.length > 0);
  for (const path of tracked) {
    const { text } = read(path);
    if (/^(src|lua|test|bench)\//.test(path)) assert.doesNotMatch(text, marks, path);
    assert.doesNotMatch(text, machinePaths, path);
  }
  assert.doesNotMatch(read('package-lock.json').text, /"resolved": *"https?:/);
});

/** Files that a commit would hold; of a copy without git, the sources. */
function trackedFiles(): string[] {
  if (!existsSync(join(packageRoot, '.git'))) return [...sources, ...lua].map(({ path }) => path);
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const listed = execFileSync('git', args, { cwd: packageRoot, encoding: 'utf8' }).split('\0');
  return listed.filter((path) => path !== '' && existsSync(join(packageRoot, path)));
}
