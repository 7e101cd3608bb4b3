/**
 * A reporter for `node --test` that counts: Node itself takes a file without any test for a passed one. Plain
 * JavaScript, because the test runner loads reporters without the loaders of its tests.
 *
 * @typedef {object} Tally
 * @property {number} passed
 * @property {number} failed
 * @property {number} skipped
 * @property {string[]} empty files in which no test ran
 *
 * @typedef {object} TestEvent
 * @property {string} type
 * @property {{ name?: string, file?: string, nesting?: number, skip?: string | boolean, details?: { type?: string } }} data
 */

/**
 * @param {AsyncIterable<TestEvent>} events
 * @returns {AsyncGenerator<string>} one line of JSON: a Tally
 */
export default async function* tally(events) {
  /** @type {Tally} */
  const counts = { passed: 0, failed: 0, skipped: 0, empty: [] };
  for await (const { type, data } of events) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    // A suite is no test, and its tests are counted themselves.
    if (data.details?.type === 'suite') continue;
    if (type === 'test:fail') counts.failed += 1;
    else if (data.skip !== undefined) counts.skipped += 1;
    else if (data.nesting === 0 && isFile(data.name)) counts.empty.push(data.name ?? '');
    else counts.passed += 1;
  }
  yield `${JSON.stringify(counts)}\n`;
}

/** @param {string | undefined} name a test named like a test file is how Node reports the file itself */
function isFile(name) {
  return name?.endsWith('.test.ts') ?? false;
}
