import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Progress } from '../../src/cli/progress.ts';
import { formatTable } from '../../src/cli/table.ts';

function record(terminal: { isTTY: boolean; columns?: number; rows?: number }) {
  const written: string[] = [];
  const stream = { ...terminal, write: (text: string) => written.push(text) > 0 };
  return { written, stream };
}

const VIEW = { line: () => 'one line', screen: () => ['first line', 'second line'] };

test('a terminal sees lines that change in place', () => {
  const { written, stream } = record({ isTTY: true, columns: 8 });
  new Progress(stream, VIEW).stop();
  const [first = '', last = ''] = written;
  assert.equal(first, '\rfirst l\x1b[K\n\rsecond \x1b[K\n\x1b[J');
  assert.ok(last.startsWith('\x1b[2A'), 'the second drawing begins where the first did');
});

test('a terminal that does not know its size is taken for a usual one', () => {
  const { written, stream } = record({ isTTY: true, columns: 0 });
  new Progress(stream, VIEW).stop();
  assert.ok(written[0]?.includes('second line'));
});

test('a low terminal sees the first lines: what scrolls away cannot be drawn over', () => {
  const { written, stream } = record({ isTTY: true, columns: 80, rows: 2 });
  new Progress(stream, VIEW).stop();
  assert.deepEqual(written, ['\rfirst line\x1b[K\n\x1b[J', '\x1b[1A\rfirst line\x1b[K\n\x1b[J']);
});

test('anything else gets plain lines', () => {
  const { written, stream } = record({ isTTY: false });
  new Progress(stream, VIEW).stop();
  assert.deepEqual(written, ['one line\n']);
});

test('a table is as wide as what is in it, numbers to the right', () => {
  const rows = [
    ['a', 5],
    ['longer', 1234],
  ] as const;
  assert.equal(formatTable(['X', 'N'], rows), ['X       N', 'a          5', 'longer  1234'].join('\n'));
});
