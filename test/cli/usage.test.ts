import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { main } from '../../src/cli/main.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../support/entry.ts';
import { runCli } from './run-cli.ts';

const COMMANDS = [
  'keys create',
  'keys revoke',
  'keys list',
  'seed',
  'simulate',
  'miner',
  'match',
  'demo',
  'registry verify',
  'registry rebuild',
  'shards plan',
  'registry show',
  'migrate',
];

/** Runs a command in this process, for what needs no hub and no store. */
async function run(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const written = { out: '', note: '' };
  const write = (name: keyof typeof written) => (line: string) => {
    written[name] += `${line}\n`;
  };
  const stopSignal = () => new AbortController().signal;
  const code = await main(args, { env, out: write('out'), note: write('note'), stopSignal });
  return { code, ...written };
}

test('-h is --help, and --version says which this is', async () => {
  for (const args of [[], ['match'], ['keys', 'create']]) {
    assert.deepEqual(await run([...args, '-h']), await run([...args, '--help']));
  }
  const { code, out } = await run(['--version']);
  assert.equal(code, 0);
  assert.match(out, /^\d+\.\d+\.\d+$/m);
});

describe('--help', () => {
  test('lists all commands', async () => {
    const { code, out } = await run(['--help']);
    assert.equal(code, 0);
    for (const name of COMMANDS) assert.match(out, new RegExp(`^${name} `, 'm'));
  });

  for (const name of COMMANDS) {
    test(`of ${name} shows its options`, async () => {
      for (const args of [
        [...name.split(' '), '--help'],
        ['help', ...name.split(' ')],
      ]) {
        const { code, out } = await run(args);
        assert.equal(code, 0);
        assert.match(out, new RegExp(`^Usage: poolhub ${name} .*\\[options\\]`));
        assert.match(out, /^ {2}--help /m);
      }
    });
  }

  test('of a group lists its commands', async () => {
    const { code, out } = await run(['registry', '--help']);
    assert.equal(code, 0);
    assert.match(out, /registry verify/);
    assert.doesNotMatch(out, /keys/);
  });
});

describe('a wrong call is one line and exit code 2', () => {
  const coordinator = { COORDINATOR_SHARED_SECRET: 'secret' };
  const cases: ReadonlyArray<readonly [args: string, why: RegExp, env?: NodeJS.ProcessEnv]> = [
    ['nonsense', /no command "nonsense"/],
    ['constructor', /no command "constructor"/],
    ['keys destroy', /no command "keys destroy"/],
    ['match --nonsense', /Unknown option '--nonsense'/],
    ['match extra', /takes no arguments/],
    ['match', /COORDINATOR_SHARED_SECRET/],
    ['match --top-k many', /--top-k must be a whole number from 1 to 100/, coordinator],
    ['match --top-k 101', /--top-k must be/, coordinator],
    ['match --min-vram-gb -1', /min-vram-gb/, coordinator],
    ['match --url ftp://hub', /--url must be like http/, coordinator],
    ['match --url hub', /--url must be like http/, coordinator],
    ['keys create', /needs <miner_id>/],
    ['keys create bad/id', /<miner_id> must be/],
    ['registry show', /needs <miner_id>/],
    ['seed --miners 0', /--miners must be/],
    ['seed --miners 1e3', /--miners must be/],
    ['seed --seed -1', /seed/],
    ['seed --fleet odd', /--fleet must be mixed or equal/],
    ['seed --prefix a/b', /--prefix must be/],
    ['simulate --transport carrier-pigeon', /--transport must be ws or http/],
    ['simulate --rate 0', /--rate must be/],
    ['simulate --duration x', /--duration must be/],
    ['miner', /needs --id/, { MINER_API_KEY: 'key' }],
    ['miner --id m', /MINER_API_KEY/],
    ['miner --id m --max-parallel 0', /--max-parallel must be/, { MINER_API_KEY: 'key' }],
    ['demo', /COORDINATOR_SHARED_SECRET/],
    ['demo --match-rate 0', /--match-rate must be/, coordinator],
  ];
  for (const [args, why, env] of cases) {
    test(args, async () => {
      const { code, out, note } = await run(args.split(' '), env);
      assert.equal(code, 2, note);
      assert.match(note, why);
      assert.equal(note.trimEnd().split('\n').length, 1, note);
      assert.equal(out, '');
    });
  }

  test('no command at all shows what there is', async () => {
    const { code, note } = await run([]);
    assert.equal(code, 2);
    assert.match(note, /Usage: poolhub <command>/);
  });
});

describe('a failure is one line and exit code 1', () => {
  const cases: ReadonlyArray<readonly [args: string, why: RegExp, env?: NodeJS.ProcessEnv]> = [
    ['migrate', /DB_DSN is required/],
    ['migrate', /DB_DSN must start with/, { DB_DSN: 'mysql://host/db' }],
    ['migrate', /ECONNREFUSED/, { DB_DSN: 'postgresql://127.0.0.1:1/nothing' }],
    ['keys list', /bad settings: .*DB_DSN is required/, {}],
    ['match --url http://127.0.0.1:1', /cannot be reached/, { COORDINATOR_SHARED_SECRET: 'secret' }],
  ];
  for (const [args, why, env] of cases) {
    test(`${args}: ${why.source}`, async () => {
      const { code, note } = await run(args.split(' '), env);
      assert.equal(code, 1);
      assert.match(note, why);
      assert.equal(note.trimEnd().split('\n').length, 1, note);
    });
  }
});

test('a reader that has seen enough is no error, on standard error neither', async () => {
  const args = [...entryArguments('src/cli/poolhub.ts'), 'nonsense'];
  const child = spawn(process.execPath, args, { cwd: packageRoot, stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.destroy();
  assert.deepEqual(await once(child, 'exit'), [2, null]);
});

test('the program exits with what the command says', async () => {
  assert.equal((await runCli(['--help'])).code, 0);
  assert.equal((await runCli(['nonsense'])).code, 2);
  assert.equal((await runCli(['migrate'])).code, 1);
});
