/** What the tables of the coordinator have in common. */
import { numeric, pgSchema, timestamp } from 'drizzle-orm/pg-core';

export const coordinator = pgSchema('coordinator');

/** A moment with the millisecond precision that JavaScript gives us. */
export const moment = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: 'date' });

/** Money, prices and quantities: exact decimals, strings in TypeScript. */
export const amount = (name: string) => numeric(name, { precision: 20, scale: 8, mode: 'string' });
