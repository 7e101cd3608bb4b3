import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { sql } from 'drizzle-orm';
import fc from 'fast-check';
import { newJobId } from '../../src/coordinator/jobs/job-id.ts';
import { insertJob } from '../../src/coordinator/jobs/store.ts';
import {
  type Capabilities,
  fits,
  fitsSql,
  needsOf,
  offerOf,
  offerValues,
} from '../../src/coordinator/miners/fit.ts';
import { connectDatabase, type Database } from '../../src/platform/db.ts';
import { harness } from '../support/harness.ts';

const h = await harness();
let db: Database;
before(async () => {
  const { db_dsn, db_pool_max, db_connect_timeout_sec, db_statement_timeout_ms, db_idle_timeout_sec } =
    await h.config();
  const timeouts = { db_connect_timeout_sec, db_statement_timeout_ms, db_idle_timeout_sec };
  db = connectDatabase({ db_dsn, db_pool_max, ...timeouts }, 'test');
  h.cleanup(() => db.close(1000));
});

const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 1 });
const price = fc.constantFrom('0', '0.1', '0.10000001', '0.5', '9', '10', '10.5', '999999999999.99999999');
const names = ['RTX 4090', 'rtx 4090', 'T4', 'Ünïcode "quoted" {x},\\y'];
const models = ['llama', 'Llama', 'a,b', 'with "quotes"', 'null', '{}'];

const constraints = fc.record({
  gpu: maybe(fc.constantFrom(...names)),
  cuda: maybe(fc.constantFrom<string | boolean>(true, false, '11', '12.4', 'v12.10', 'new')),
  min_vram_gb: maybe(fc.constantFrom(0, 0.5, 8, 15.9999, 16, 24)),
  models: maybe(fc.subarray(models)),
  region: maybe(fc.constantFrom('eu', 'EU-west', 'eu_', 'eu%', 'us')),
  max_price: maybe(price),
});

const capabilities: fc.Arbitrary<Capabilities> = fc.record({
  gpus: maybe(
    fc.array(
      fc.record({
        name: maybe(fc.constantFrom(...names)),
        memory_mb: maybe(fc.constantFrom(0, 512, 16_384, 24_576)),
      }),
      {
        maxLength: 3,
      },
    ),
  ),
  cuda: maybe(fc.constantFrom<string | boolean | number>(true, false, '12', '12.4', '12.10', '11.8', 12)),
  models: maybe(fc.subarray(models)),
  price: maybe(price),
});

const region = fc.constantFrom(null, 'eu', 'eu-west', 'eu-west-1', 'europe', 'us', 'EU');

test('who is woken for a job is who may take it', { timeout: 60_000 }, async () => {
  let agreed = 0;
  const property = fc.asyncProperty(
    constraints,
    fc.array(fc.tuple(capabilities, region), { minLength: 8, maxLength: 8 }),
    async (asked, miners) => {
      const needs = needsOf(asked);
      const jobId = newJobId();
      await insertJob(db, {
        jobId,
        clientId: 'test',
        idempotencyKey: null,
        requestDigest: '',
        payloadText: '{}',
        constraintsText: '{}',
        needs,
        ttlMs: 60_000,
        paymentAmount: null,
        paymentCurrency: null,
        heldMs: 0,
      });

      for (const [capability, where] of miners) {
        const offer = offerOf(capability, where);
        const rows = await db.run((orm) =>
          orm.execute(
            sql`select 1 from coordinator.jobs where job_id = ${jobId} and ${fitsSql(offerValues(offer))}`,
          ),
        );
        assert.equal(rows.length === 1, fits(needs, offer), JSON.stringify({ needs, offer }));
        if (rows.length === 1) agreed += 1;
      }
    },
  );
  await fc.assert(property, { numRuns: 60 });
  assert.ok(agreed > 20, 'some of them fit');
});

test('each constraint is met as it says', () => {
  const offer = offerOf(
    {
      gpus: [
        { name: 'RTX 4090', memory_mb: 24_576 },
        { name: 'T4', memory_mb: 16_384 },
      ],
      cuda: '12.4',
      models: ['a', 'b'],
      price: '0.5',
    },
    'eu-west-1',
  );
  const cases: [Parameters<typeof needsOf>[0], boolean][] = [
    [{}, true],
    [{ gpu: 'rtx 4090' }, true],
    [{ gpu: 'rtx' }, false],
    [{ cuda: true }, true],
    [{ cuda: '12.4' }, true],
    [{ cuda: '12.10' }, false],
    [{ cuda: '11.8' }, true],
    [{ min_vram_gb: 24 }, true],
    [{ min_vram_gb: 24.01 }, false],
    [{ models: ['x', 'b'] }, true],
    [{ models: ['x'] }, false],
    [{ models: [] }, true],
    [{ region: 'eu' }, true],
    [{ region: 'EU-West' }, true],
    [{ region: 'eu-w' }, false],
    [{ max_price: '0.5' }, true],
    [{ max_price: '0.49999999' }, false],
  ];
  for (const [constraint, expected] of cases) {
    assert.equal(fits(needsOf(constraint), offer), expected, JSON.stringify(constraint));
  }
  const bare = offerOf({}, null);
  for (const [constraint] of cases.slice(1)) {
    const asksNothing = constraint.models?.length === 0;
    assert.equal(fits(needsOf(constraint), bare), asksNothing, JSON.stringify(constraint));
  }
});
