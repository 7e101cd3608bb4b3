import type postgres from 'postgres';

const DAY_SEC = 86_400;

/** As SLA_ROLLUP_DAYS has it: hours of the last week, days before that. */
const HOURLY_DAYS = 7;
/** With a week of hours, a little more than a year. */
const DAILY_DAYS = 393;
const ROWS_PER_MINER = HOURLY_DAYS * 24 + DAILY_DAYS;

/** Days of rows in one statement. */
const STEP_DAYS = 14;
const HOURS_STEP_DAYS = 1;

/**
 * Fills `sla_metrics` with the past of as many miners as give about `rows` rows, a year and a week of each, in the order in
 * which collections write them: by time, then by miner. So the rows of a miner are as far apart as at work.
 * @param minerIds those who may have a past, the first of them get one
 * @returns rows that are there now, and whose they are
 */
export async function fillPast(
  sql: postgres.Sql,
  minerIds: readonly string[],
  rows: number,
  progress: (line: string) => void,
): Promise<{ rows: number; minerIds: readonly string[] }> {
  const chosen = minerIds.slice(0, Math.max(1, Math.ceil(rows / ROWS_PER_MINER)));
  await sql`create temp table past_miners as select * from unnest(${[...chosen]}::text[]) as m(miner_id)`;
  const [day] = await sql<
    { today: number }[]
  >`select floor(extract(epoch from now()) / ${DAY_SEC})::int as today`;
  const today = (day as { today: number }).today;
  let written = 0;
  const add = async (fromDay: number, toDay: number, spanSec: number) => {
    const { count } = await insertSpans(sql, fromDay * DAY_SEC, toDay * DAY_SEC, spanSec);
    written += count;
    progress(`${written} rows of the past`);
  };
  const firstHourly = today - HOURLY_DAYS;
  for (let at = firstHourly - DAILY_DAYS; at < firstHourly; at += STEP_DAYS) {
    await add(at, Math.min(firstHourly, at + STEP_DAYS), DAY_SEC);
  }
  for (let at = firstHourly; at < today; at += HOURS_STEP_DAYS) await add(at, at + HOURS_STEP_DAYS, 3600);
  await sql`vacuum analyze poolhub.sla_metrics`;
  return { rows: written, minerIds: chosen };
}

function insertSpans(sql: postgres.Sql, fromSec: number, toSec: number, spanSec: number) {
  return sql`
    insert into poolhub.sla_metrics (miner_id, starts_at, span_sec, collected_at, online_ms, expected_ms, completed, failed,
      latency_sum_ms, latency_count)
    select miner_id, to_timestamp(at), ${spanSec}::int, to_timestamp(at + ${spanSec}::int), 1000.0 * ${spanSec}::int * (0.9 + random() / 10),
      1000.0 * ${spanSec}::int, jobs, floor(jobs * random() / 10), jobs * (100 + 900 * random()), jobs
    from generate_series(${fromSec}::bigint, ${toSec - 1}::bigint, ${spanSec}::bigint) at, past_miners,
      lateral (select floor(random() * 50)::int as jobs where at is not null and miner_id is not null) j
    order by at, miner_id`;
}

/** Gives every miner a profile row and `perMiner` finished jobs of the last minutes, a tenth of them failed. */
export async function addFeedback(
  sql: postgres.Sql,
  minerIds: readonly string[],
  perMiner: number,
): Promise<void> {
  await sql`insert into poolhub.miners (miner_id) select unnest(${[...minerIds]}::text[]) on conflict do nothing`;
  await sql`
    insert into poolhub.feedback (job_id, miner_id, outcome, latency_ms, seq, alpha_added, beta_added, half_life_days, applied, created_at)
    select md5(random()::text || m.miner_id || n), m.miner_id, case when random() < 0.1 then 'failed' else 'completed' end,
      100 + 900 * random(), m.trust_seq + n, 1, 0, 7, true, now()
    from poolhub.miners m, generate_series(1, ${perMiner}::int) n order by n, m.miner_id`;
  await sql`update poolhub.miners set trust_seq = trust_seq + ${perMiner}`;
  await sql`vacuum analyze poolhub.feedback, poolhub.miners`;
}
