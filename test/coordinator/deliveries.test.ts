import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { sql } from 'drizzle-orm';
import { openCoordinator } from '../../src/coordinator/deps.ts';
import { loadCoordinatorConfig } from '../../src/coordinator/environment.ts';
import { type ClaimedJob, putBack } from '../../src/coordinator/miners/claim.ts';
import { Deliveries } from '../../src/coordinator/miners/deliveries.ts';
import { poll } from '../../src/coordinator/miners/poll.ts';
import { upsertMiner } from '../../src/coordinator/miners/store.ts';
import { createLogger } from '../../src/platform/logger.ts';
import { harness } from '../support/harness.ts';
import { replicaEnv } from './replica.ts';

const h = await harness();
const log = createLogger('silent', 'test');
let deps: ReturnType<typeof openCoordinator>;
before(async () => {
  deps = openCoordinator(loadCoordinatorConfig(await replicaEnv(h)), log, { processMetrics: false });
  h.cleanup(() => deps.close());
  const miner = { minerId: 'm', capabilitiesText: '{}', concurrency: 1, region: null };
  await deps.db.run((orm) => upsertMiner(orm, { ...miner, sessionDigest: 'present' }));
});

test('what has gathered is all written down at the end, but for jobs that a former session got', async () => {
  const total = 1200;
  await deps.db.run((orm) =>
    orm.execute(sql`insert into coordinator.jobs
      (job_id, client_id, request_digest, payload, constraints, expires_at, state, assigned_miner_id, slot, attempts, started_at)
      select 'job-' || n, 'alice', '', '{}', '{}', now() + interval '1 hour', 'RUNNING', 'm', n, 1, now()
      from generate_series(0, ${total - 1}) n`),
  );
  const deliveries = new Deliveries(deps.db, log, false);
  for (let n = 0; n < total; n += 1) {
    const sessionDigest = n === 7 ? 'former' : 'present';
    deliveries.note({ jobId: `job-${n}`, attempts: 1, sessionDigest, reservationId: null });
  }
  await deliveries.close();
  const left = await deps.db.run((orm) =>
    orm.execute(
      sql`select job_id from coordinator.jobs where assigned_miner_id = 'm' and delivered_at is null`,
    ),
  );
  assert.deepEqual([...left], [{ job_id: 'job-7' }]);
  const answerThatBroke = (jobId: string) =>
    ({ row: { job_id: jobId, assigned_miner_id: 'm' }, attempts: 1 }) as ClaimedJob;
  const back = (jobId: string) => deps.db.run((orm) => putBack(orm, answerThatBroke(jobId)));
  assert.equal(await back('job-6'), undefined, 'another answer has brought it');
  assert.equal((await back('job-7'))?.state, 'QUEUED');
});

test('a poll whose miner hangs up before it is held ends at once', { timeout: 20_000 }, async () => {
  const hangUp = new AbortController();
  const polling = poll(deps, 'm', null, 60_000, hangUp.signal);
  hangUp.abort();
  assert.equal(await polling, undefined);
  assert.equal(deps.dispatcher.held, 0);
});
