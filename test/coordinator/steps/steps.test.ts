import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { answer } from '../settlement-node.ts';
import { type Case, type Fate, type Step, workUntilOver } from './case.ts';
import { STEPS } from './table.ts';
import { World } from './world.ts';

const h = await harness();
let world: World;

before(async () => {
  world = await World.open(h);
  await world.start();
});

interface Stopped {
  readonly step: Step;
  readonly c: Case;
}

/** Brings every step to the point where it is stopped, all at once: one kill then hits each in its middle. */
async function stopAll(fate: Fate): Promise<Stopped[]> {
  const stopped = STEPS.filter(({ only }) => only === undefined || only === fate).map((step) => ({
    step,
    c: { world, fate, key: `${step.name.replaceAll(' ', '_')}.${fate}`, jobId: '', hasJob: false },
  }));
  await Promise.all(stopped.map(({ step, c }) => step.ready(c)));
  const waits = await Promise.all(stopped.map((one) => arm(one)));
  for (const { step, c } of stopped) {
    // The answer never comes; the fetch fails when the process dies, and is given up.
    void step.go?.(c).catch(() => {});
  }
  const unpaid = stopped.filter(({ step }) => step.go === undefined).map(({ c }) => c.jobId);
  await world.sql`update coordinator.settlements set due_at = now() where job_id = any(${unpaid}::text[])`;
  await Promise.all(waits.map((wait) => wait()));
  return stopped;
}

/** @returns waits until the step is reached */
async function arm({ step, c }: Stopped): Promise<() => Promise<void>> {
  const stop = step.stop(c);
  if ('row' in stop) {
    const id = await world.holds.add(stop.row);
    return () => world.holds.reached(id, c.key);
  }
  if ('hub' in stop) {
    world.gate.add(stop.hub, c.fate === 'committed');
    return () => world.gate.reached(stop.hub);
  }
  const isHere = () => world.node.calls.some((call) => call.jobId === c.jobId && call.step === stop.node);
  return async () => void (await waitFor(isHere, { timeoutMs: 30_000, what: c.key }));
}

/** The node stops where the steps say so, having done what it was asked or not. */
function misbehave(fate: Fate, stopped: () => readonly Stopped[]): void {
  world.node.misbehave((call, response, accept) => {
    const found = stopped().find(({ c }) => c.jobId === call.jobId);
    const stop = found?.step.stop(found.c);
    const isStopped = stop !== undefined && 'node' in stop && stop.node === call.step;
    if (isStopped && fate === 'undone') return;
    const [status, body] = accept();
    if (!isStopped) answer(response, status, body);
  });
}

for (const fate of ['undone', 'committed'] as const) {
  test(`killed in each step of a job's life, which is then ${fate}: every job ends once, all told and paid once`, {
    timeout: 180_000,
  }, async () => {
    let stopped: readonly Stopped[] = [];
    misbehave(fate, () => stopped);
    stopped = await stopAll(fate);
    await world.kill();
    await world.holds.end(fate);
    world.gate.end();
    world.node.misbehave(undefined);
    await world.start();
    await world.letTimePass();
    await Promise.all(
      stopped.map(async ({ step, c }) => {
        await step.again?.(c);
        if (step.ends !== undefined) await workUntilOver(c);
      }),
    );
    await world.letTimePass();
    for (const one of stopped) if (one.step.ends !== undefined) await assertOnce(one);
  });
}

/** One terminal state; one receipt, settlement, payment and usage record of what was completed; every report at the hub once. */
async function assertOnce({ step, c }: Stopped): Promise<void> {
  const { sql } = world;
  const jobs = await sql<
    { job_id: string; state: string; receipts: number; settlements: number; usage: number }[]
  >`
    select job_id, state,
      (select count(*)::int from coordinator.receipts r where r.job_id = j.job_id) as receipts,
      (select count(*)::int from coordinator.settlements s where s.job_id = j.job_id) as settlements,
      (select count(*)::int from coordinator.usage_records u where u.job_id = j.job_id) as usage
    from coordinator.jobs j where need_region = ${c.key}`;
  const n = step.ends === 'COMPLETED' ? 1 : 0;
  const { jobId: job_id } = c;
  assert.deepEqual([...jobs], [{ job_id, state: step.ends, receipts: n, settlements: n, usage: n }], c.key);
  await waitFor(
    async () => {
      const heard = await sql`select outcome from poolhub.feedback where job_id = ${job_id} order by outcome`;
      assert.deepEqual(
        heard.map(({ outcome }) => outcome),
        step.told,
        c.key,
      );
      return true;
    },
    { what: `the hub hears of ${c.key}` },
  );
  if (n === 0) return;
  await waitFor(() => world.node.escrows.get(job_id) === 'released', { what: `${c.key} is paid` });
  assert.deepEqual(
    [world.node.moves.get(`${job_id}:create`), world.node.moves.get(`${job_id}:release`)],
    [1, 1],
    c.key,
  );
}
