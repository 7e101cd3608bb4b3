import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import postgres from 'postgres';
import type { Weights } from '../../src/platform/settings.ts';
import { median } from '../support/statistics.ts';
import type { Undo } from '../support/undo.ts';
import type { PoolMiner } from './pool.ts';
import type { ShapeQuery } from './shapes.ts';

const CONNECT_TIMEOUT_SEC = 10;
const COPY_ROWS = 1000;

const TABLE = `CREATE UNLOGGED TABLE pool (
  miner_id text NOT NULL,
  free boolean NOT NULL,
  price double precision NOT NULL,
  vram_gb double precision NOT NULL,
  static_score double precision NOT NULL,
  region text COLLATE "C" NOT NULL,
  gpu_key text NOT NULL,
  accel text[] NOT NULL,
  tags text[] NOT NULL,
  capabilities text[] NOT NULL
)`;

const INDEXES = [
  'CREATE INDEX ON pool USING gin (capabilities)',
  'CREATE INDEX ON pool USING gin (tags)',
  'CREATE INDEX ON pool (gpu_key)',
  'CREATE INDEX ON pool (region, vram_gb)',
  'CREATE INDEX ON pool (vram_gb)',
  'CREATE INDEX ON pool (price)',
  'CREATE INDEX ON pool (static_score)',
];

/** The same fleet in one table of Postgres, with the indexes that the queries can use. */
export class SqlPool {
  readonly #sql: postgres.Sql;
  readonly #weights: Weights;
  readonly #priceReference: number;

  private constructor(sql: postgres.Sql, weights: Weights, priceReference: number) {
    this.#sql = sql;
    this.#weights = weights;
    this.#priceReference = priceReference;
  }

  /** Fills, indexes and analyses the table. */
  static async load(
    dsn: string,
    pool: readonly PoolMiner[],
    scoring: { weights: Weights; priceReference: number },
    undo: Undo,
  ): Promise<SqlPool> {
    const sql = postgres(dsn, { max: 1, connect_timeout: CONNECT_TIMEOUT_SEC, onnotice: () => {} });
    undo.push(() => sql.end({ timeout: 5 }));
    await sql.unsafe(TABLE);
    await pipeline(Readable.from(copyLines(pool)), await sql`COPY pool FROM STDIN`.writable());
    for (const index of INDEXES) await sql.unsafe(index);
    await sql.unsafe('VACUUM ANALYZE pool');
    // Compiling a query takes longer than running one of these.
    await sql.unsafe('SET jit = off');
    return new SqlPool(sql, scoring.weights, scoring.priceReference);
  }

  /** Scores of the best miners, best first. */
  async bestScores(query: ShapeQuery): Promise<number[]> {
    const { text, values } = this.#select(query);
    const rows = await this.#sql.unsafe(text, values);
    return rows.map((row) => Number(row.score));
  }

  /**
   * Milliseconds the server takes to run the query, without planning, transfer and the clock calls per row: the
   * median of `runs`, after one that warms the caches.
   */
  async executionMs(query: ShapeQuery, runs: number): Promise<number> {
    const { text, values } = this.#select(query);
    const times: number[] = [];
    for (let run = 0; run <= runs; run += 1) {
      const [row] = await this.#sql.unsafe(`EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ${text}`, values);
      const plan = row?.['QUERY PLAN'] as { 'Execution Time': number }[];
      if (run > 0) times.push((plan[0] as { 'Execution Time': number })['Execution Time']);
    }
    return median(times);
  }

  #select(query: ShapeQuery): { text: string; values: (number | string | string[])[] } {
    const values: (number | string | string[])[] = [];
    const given = (value: number | string | readonly string[], type: string) => {
      values.push(typeof value === 'object' ? [...value] : value);
      return `$${values.length}::${type}`;
    };
    const { accel, tags_any, capabilities_any, gpu_name_any, min_vram_gb, region, max_price, top_k } = query;
    const clauses = ['free'];
    if (accel) clauses.push(`accel && ${given(accel, 'text[]')}`);
    if (tags_any) clauses.push(`tags && ${given(tags_any, 'text[]')}`);
    if (capabilities_any) clauses.push(`capabilities && ${given(capabilities_any, 'text[]')}`);
    if (gpu_name_any) clauses.push(`gpu_key = ANY(${given(gpu_name_any, 'text[]')})`);
    if (min_vram_gb !== undefined) clauses.push(`vram_gb >= ${given(min_vram_gb, 'float8')}`);
    if (max_price !== undefined) clauses.push(`price <= ${given(max_price, 'float8')}`);
    if (region !== undefined) {
      clauses.push(`(region = ${given(region, 'text')} OR region LIKE ${given(`${region}-%`, 'text')})`);
    }
    const fits = (capabilities_any ?? []).map((name) => `(capabilities @> ${given([name], 'text[]')})::int`);
    const fit = fits.length === 0 ? '1' : `(${fits.join(' + ')}) / ${fits.length}.0::float8`;
    const top = given(max_price ?? this.#priceReference, 'float8');
    const { cap, price } = this.#weights;
    const score = `${cap} * ${fit} + ${price} * greatest(0, 1 - price / ${top}) + static_score`;
    const text = `SELECT miner_id, (${score})::float8 AS score FROM pool WHERE ${clauses.join(' AND ')} ORDER BY score DESC LIMIT ${top_k}`;
    return { text, values };
  }
}

/** Rows as COPY reads them (text format), many at a time. */
function* copyLines(pool: readonly PoolMiner[]): Generator<string> {
  for (let from = 0; from < pool.length; from += COPY_ROWS) {
    yield pool
      .slice(from, from + COPY_ROWS)
      .map((m) => {
        const { id, free, price, vramGb, staticScore, region, gpuKey, accel, tags, capabilities } = m;
        const lists = [accel, tags, capabilities].map(arrayLiteral);
        const cells = [id, free ? 't' : 'f', price, vramGb, staticScore, region, gpuKey, ...lists];
        return `${cells.map((cell) => escapeCell(String(cell))).join('\t')}\n`;
      })
      .join('');
  }
}

function arrayLiteral(items: readonly string[]): string {
  return `{${items.map((item) => `"${item.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;
}

function escapeCell(text: string): string {
  return text.replace(/\\/g, '\\\\').replace(/\t/g, '\\t').replace(/\r/g, '\\r').replace(/\n/g, '\\n');
}
