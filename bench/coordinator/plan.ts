import { sql } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';
import type postgres from 'postgres';
import { fitsSql, IS_OPEN, offerOf, offerValues } from '../../src/coordinator/miners/fit.ts';

const PENDING = 1000;

/**
 * How Postgres, left to itself, finds the oldest job that a miner may take, among 1,000 that wait and all that are over.
 * @returns EXPLAIN ANALYZE, line by line
 */
export async function planOfQueue(client: postgres.Sql): Promise<string[]> {
  const query = sql`explain (analyze, costs off, timing off, summary off)
    select job_id from coordinator.jobs where ${IS_OPEN} and ${fitsSql(offerValues(offerOf({}, null)))}
    order by requested_at, job_id limit 1 for update skip locked`;
  const { sql: text, params } = new PgDialect().sqlToQuery(query);
  let lines: string[] = [];
  const undone = new Error('undone');
  await client
    .begin(async (transaction) => {
      await transaction`
        insert into coordinator.jobs (job_id, client_id, request_digest, payload, constraints, requested_at, open_at, expires_at)
        select md5('pending' || n), 'past-pending', '', '{}', '{}', past, past, now() + interval '1 hour'
        from generate_series(1, ${PENDING}::int) n, lateral (select now() - n * interval '1 millisecond' as past) moments`;
      const rows = await transaction.unsafe(text, params as string[]);
      lines = rows.map((row) => row['QUERY PLAN'] as string);
      throw undone;
    })
    .catch((error: unknown) => {
      if (error !== undone) throw error;
    });
  return lines;
}
