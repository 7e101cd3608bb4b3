import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { tryLock } from '../../src/bin/lock.mjs';
import { startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { harness } from '../support/harness.ts';
import { temporaryFolder } from './folders.ts';

const h = await harness();
const folder = await temporaryFolder(h.cleanup);

test('a lock has one holder until it is released', async () => {
  const file = join(folder, 'a', 'lock');
  const first = tryLock(file);
  assert.ok('release' in first);
  assert.deepEqual(tryLock(file), { holderPid: process.pid });
  first.release();
  const second = tryLock(file);
  assert.ok('release' in second);
  second.release();
  assert.deepEqual(await readdir(join(folder, 'a')), []);
});

test('the lock of a dead process is taken over', async () => {
  const file = join(folder, 'dead');
  const dead = await startProgram('/bin/sh', ['-c', 'exit 0']);
  await dead.exited;
  await writeFile(file, `${dead.pid} 12345\n`);
  const lock = tryLock(file);
  assert.ok('release' in lock);
  lock.release();
});

test('a pid that belongs to a later process holds nothing', { skip: noStartTimes() }, async () => {
  const file = join(folder, 'reused');
  await writeFile(file, `${process.pid} 1\n`);
  assert.ok('release' in tryLock(file));
});

test('of many processes that find a stale lock, one gets it', async () => {
  const file = join(folder, 'contended');
  await writeFile(file, '999999999 1\n');
  const program = `
    const { tryLock } = await import(${JSON.stringify(join(packageRoot, 'src/bin/lock.mjs'))});
    const lock = tryLock(${JSON.stringify(file)});
    console.log('release' in lock ? 'got it' : 'too late');
    process.stdin.resume();
    setInterval(() => {}, 1000);`;
  const racers = await Promise.all(
    Array.from({ length: 6 }, async () => {
      let said: (line: string) => void = () => {};
      const answer = new Promise<string>((resolve) => {
        said = resolve;
      });
      const args = ['--input-type=module', '--eval', program];
      const racer = await startProgram(process.execPath, args, { onOutput: (text) => said(text.trim()) });
      h.cleanup(() => racer.stop());
      return answer;
    }),
  );
  assert.equal(racers.filter((answer) => answer === 'got it').length, 1, racers.join(', '));
});

function noStartTimes(): string | false {
  return process.platform === 'linux' ? false : 'only Linux tells when a process started';
}
