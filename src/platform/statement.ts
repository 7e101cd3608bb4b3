import { fillPlaceholders, type SQL, sql } from 'drizzle-orm';
import { PgDialect } from 'drizzle-orm/pg-core';

/** A statement that is built once, for calls that are made all the time. */
export interface Statement<V extends Record<string, unknown>> {
  readonly text: string;
  /** The values of its parameters, in their order. */
  bind(values: V): readonly unknown[];
}

/** @param template with a `sql.placeholder(name)` for each of the values */
export function statement<V extends Record<string, unknown>>(template: SQL): Statement<V> {
  const { sql: text, params } = new PgDialect().sqlToQuery(template);
  return { text, bind: (values) => fillPlaceholders(params, values) };
}

/** A moment (timestamptz) as our JSON writes it, ISO 8601 in UTC with milliseconds, whatever the time zone of the session. */
export function isoText(moment: SQL): SQL {
  return sql`to_char(${moment} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
}
