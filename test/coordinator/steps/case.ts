import assert from 'node:assert/strict';
import { waitFor } from '../../support/wait-for.ts';
import { ALICE, asMiner } from '../replica.ts';
import type { NodeCall } from '../settlement-node.ts';
import type { RowHold } from './holds.ts';
import type { CallHold } from './hub-gate.ts';
import { asAlice, type World } from './world.ts';

/** What becomes of the step that the coordinator is killed in: as if it had never begun, or done without anybody who hears of it. */
export type Fate = 'undone' | 'committed';

/** One step on its way: the job, its region, its miner and its idempotency key have the same name. */
export interface Case {
  readonly world: World;
  readonly key: string;
  readonly fate: Fate;
  jobId: string;
  /** The miner was sent the job. */
  hasJob: boolean;
}

export interface Step {
  readonly name: string;
  /** Brings the job to where the step is next. */
  readonly ready: (c: Case) => Promise<void>;
  readonly stop: (c: Case) => { row: RowHold } | { hub: CallHold } | { node: NodeCall['step'] };
  /** Takes the step; the answer never comes. Without it the step takes itself. */
  readonly go?: (c: Case) => Promise<unknown>;
  /** What its caller does when the coordinator is back. */
  readonly again?: (c: Case) => Promise<unknown>;
  /** How the job ends; nothing for what is not about a job. */
  readonly ends?: 'COMPLETED' | 'FAILED' | 'CANCELED' | 'EXPIRED';
  /** What the hub has been told at the end. */
  readonly told?: readonly string[];
  /** Where one fate is all there is to see. */
  readonly only?: Fate;
}

export const submit = async (c: Case) => {
  const body = { payload: { key: c.key }, constraints: { region: c.key }, payment_amount: '0.25' };
  const answer = await c.world.call('POST', '/v1/jobs', asAlice(c.key, body));
  assert.equal(answer.status, 201, answer.text);
  c.jobId = answer.json.job_id;
};

export const poll = async (c: Case, waitSec = 20) => {
  const body = { max_wait_seconds: waitSec };
  const answer = await c.world.call('POST', '/v1/miners/poll', { headers: asMiner(c.key), body });
  c.hasJob = answer.status === 200;
  return answer;
};

export const deliver = (c: Case) =>
  c.world.call('POST', `/v1/miners/${c.jobId}/result`, {
    headers: asMiner(c.key),
    body: { result: { ok: true } },
  });

export const fail = (c: Case) =>
  c.world.call('POST', `/v1/miners/${c.jobId}/fail`, {
    headers: asMiner(c.key),
    body: { error_code: 'broken' },
  });

export const cancel = (c: Case) => c.world.call('POST', `/v1/jobs/${c.jobId}/cancel`, { headers: ALICE });

export const stateOf = async (c: Case) =>
  (await c.world.call('GET', `/v1/jobs/${c.jobId}`, { headers: ALICE })).json.state;

export const join = (c: Case) => c.world.join(c.key);

export const queued = async (c: Case) => {
  await join(c);
  await submit(c);
};

/** Offered, so that the hub's choice is part of what is broken off. */
export const offered = async (c: Case) => {
  await queued(c);
  await waitFor(async () => {
    const [row] = await c.world.sql`select from coordinator.job_offers where job_id = ${c.jobId}`;
    return row !== undefined;
  });
};

export const running = async (c: Case) => {
  await queued(c);
  assert.equal((await poll(c)).json?.job_id, c.jobId);
  await waitFor(async () => {
    const [row] = await c.world
      .sql`select from coordinator.jobs where job_id = ${c.jobId} and delivered_at is not null`;
    return row !== undefined;
  });
};

export const completed = async (c: Case) => {
  await running(c);
  assert.equal((await deliver(c)).status, 200);
};

/** What the miner does until the job is over: delivers what it has, else polls. */
export async function workUntilOver(c: Case): Promise<void> {
  await waitFor(
    async () => {
      if (!['QUEUED', 'RUNNING'].includes(await stateOf(c))) return true;
      if (!c.hasJob) await poll(c, 0.5);
      else c.hasJob = (await deliver(c)).status !== 404;
      return false;
    },
    { timeoutMs: 30_000, what: `${c.key} is over` },
  );
}
