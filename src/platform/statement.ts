import { fillPlaceholders, type SQL } from 'drizzle-orm';
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
