import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fits, type MinerOffer, needsOf, offerOf } from '../../src/coordinator/miners/fit.ts';
import { type HeldPoll, HeldPolls, type Pending } from '../../src/coordinator/miners/held-polls.ts';

const GPUS = ['t4', 'a100', 'h100'];

function pollOf(minerId: string, offer: MinerOffer): HeldPoll {
  return { minerId, sessionDigest: '', offer, isBusy: false, settle: () => {}, fail: () => {} };
}

function pendingOf(gpu: string | undefined, offered: readonly string[] = [], full: readonly string[] = []) {
  const job = { kind: 'waiting', job_id: 'job', needs: needsOf({ gpu }), offered } as const;
  return { job, full } satisfies Pending;
}

/** What each step does with the poll that its number names, and the job that is asked for after it. */
const steps = fc.array(
  fc.record({
    act: fc.constantFrom('add', 'add', 'add', 'occupy', 'release', 'delete'),
    at: fc.nat(1000),
    gpu: fc.option(fc.constantFrom(...GPUS, 'none has it'), { nil: undefined }),
    full: fc.subarray(['m0', 'm1', 'm2', 'm3'], { maxLength: 3 }),
    offered: fc.subarray(['m1', 'm2', 'nobody'], { maxLength: 2 }),
  }),
  { minLength: 1, maxLength: 150, size: 'max' },
);

test('whom a job goes to is who has waited longest of those that it fits, as if each were looked at', () => {
  fc.assert(
    fc.property(steps, (history) => {
      const polls = new HeldPolls();
      const held: HeldPoll[] = [];
      for (const { act, at, gpu, full, offered } of history) {
        const poll = held[at % held.length];
        if (act === 'add') {
          const added = pollOf(`m${at % 40}`, offerOf({ gpus: [{ name: GPUS[at % 2] }] }, null));
          held.push(added);
          polls.add(added);
        } else if (poll !== undefined && act === 'delete') {
          held.splice(held.indexOf(poll), 1);
          polls.delete(poll);
          polls.delete(poll);
        } else if (poll?.isBusy === true) polls.release(poll);
        else if (poll !== undefined) polls.occupy(poll);
        const open = pendingOf(gpu, [], full);
        assert.equal(
          polls.choose(open),
          [...polls.free].find((one) => polls.mayTake(one, open)),
        );
        const isBusy = held.some((one) => one.isBusy);
        const suits = ({ minerId, offer }: HeldPoll) =>
          !full.includes(minerId) && fits(open.job.needs, offer);
        assert.equal(polls.isWorthWaiting(open), isBusy && held.some(suits));
        const named = pendingOf(gpu, ['m1', ...offered], full);
        const isNamed = ({ minerId }: HeldPoll) =>
          named.job.offered.includes(minerId) && !full.includes(minerId);
        assert.equal(polls.isWorthWaiting(named), isBusy && held.some(isNamed));
        assert.equal(polls.size, held.length);
      }
    }),
    { numRuns: 200 },
  );
});

test('a job that fits nobody is compared with each offer, not with each poll', () => {
  let reads = 0;
  const polls = new HeldPolls();
  for (let n = 0; n < 1000; n += 1) {
    const gpus = [GPUS[n % 2] as string];
    const offer = {
      ...offerOf({}, null),
      get gpus() {
        reads += 1;
        return gpus;
      },
    };
    polls.add(pollOf(`m${n}`, offer));
  }
  const [first] = polls.free;
  polls.occupy(first as HeldPoll);
  reads = 0;
  const pending = pendingOf('none has it');
  assert.equal(polls.choose(pending), undefined);
  assert.equal(polls.isWorthWaiting(pending), false);
  assert.ok(reads <= 20, `${reads} reads`);
});
