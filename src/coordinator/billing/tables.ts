/** Usage that is billed to tenants, their plans, and the invoices. */
import { sql } from 'drizzle-orm';
import {
  bigint,
  check,
  date,
  foreignKey,
  index,
  integer,
  jsonb,
  numeric,
  primaryKey,
  text,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import { amount, coordinator, moment } from '../pg-schema.ts';

/** Sums of amounts: as exact as an amount, with room for a billion of the largest. */
const total = (name: string) => numeric(name, { precision: 38, scale: 8, mode: 'string' });

/** One line of an invoice, as JSON; decimals are strings. */
export interface InvoiceLine {
  readonly resource_type: string;
  readonly quantity: string;
  /** Null when the records of the line have several. */
  readonly unit_price: string | null;
  readonly amount: string;
  readonly records: number;
  /** Of former periods, reported after those were invoiced. */
  readonly late?: true;
}

/** Monthly limits of a plan by resource; a resource without one is not limited. */
export const planLimits = coordinator.table(
  'plan_limits',
  {
    plan: text('plan').notNull(),
    resourceType: text('resource_type').notNull(),
    monthlyLimit: amount('monthly_limit').notNull(),
  },
  (table) => [primaryKey({ columns: [table.plan, table.resourceType] })],
);

/** Tenants with a plan; any other tenant is not limited. */
export const tenants = coordinator.table('tenants', {
  tenantId: text('tenant_id').primaryKey(),
  plan: text('plan').notNull(),
  createdAt: moment('created_at').notNull().defaultNow(),
  updatedAt: moment('updated_at').notNull().defaultNow(),
});

/**
 * What a tenant has used of a limited resource in a month. A row begins, with the sum of the records so far, when the first limited
 * record comes, and goes when the plan changes.
 */
export const quotaUse = coordinator.table(
  'quota_use',
  {
    tenantId: text('tenant_id')
      .notNull()
      .references(() => tenants.tenantId, { onDelete: 'cascade' }),
    resourceType: text('resource_type').notNull(),
    /** First day of the month, UTC. */
    month: date('month', { mode: 'string' }).notNull(),
    used: total('used').notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.resourceType, table.month] })],
);

export const invoices = coordinator.table(
  'invoices',
  {
    /** INV-<tenant>-YYYYMMDD-0001: tenant, day of issue (UTC), number of the day. */
    invoiceNumber: text('invoice_number').primaryKey(),
    tenantId: text('tenant_id').notNull(),
    periodStart: moment('period_start').notNull(),
    periodEnd: moment('period_end').notNull(),
    currency: text('currency').notNull(),
    /** While `collecting`, records are put on it; while `closing`, none any more, and it is summed up. Whoever asks for it goes on with that. */
    status: text('status').$type<'collecting' | 'closing' | 'draft'>().notNull(),
    lines: jsonb('lines').$type<InvoiceLine[]>().notNull().default(sql`'[]'::jsonb`),
    subtotal: total('subtotal').notNull().default('0'),
    taxRate: numeric('tax_rate', { precision: 9, scale: 8, mode: 'string' }).notNull(),
    tax: total('tax').notNull().default('0'),
    totalAmount: total('total_amount').notNull().default('0'),
    dueDate: date('due_date', { mode: 'string' }).notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  (table) => [
    uniqueIndex('idx_invoices_period').on(table.tenantId, table.periodStart, table.periodEnd, table.currency),
    check('invoices_status', sql`${table.status} in ('collecting', 'closing', 'draft')`),
    check('invoices_period', sql`${table.periodStart} < ${table.periodEnd}`),
  ],
);

/** The last invoice number of a tenant and day, so that numbers have no gaps. */
export const invoiceNumbers = coordinator.table(
  'invoice_numbers',
  {
    tenantId: text('tenant_id').notNull(),
    day: date('day', { mode: 'string' }).notNull(),
    last: integer('last').notNull(),
  },
  (table) => [primaryKey({ columns: [table.tenantId, table.day] })],
);

/** One row for each use that was reported; its id is the idempotency key of the report. */
export const usageRecords = coordinator.table(
  'usage_records',
  {
    seq: bigint('seq', { mode: 'number' }).generatedAlwaysAsIdentity().notNull(),
    id: text('id').primaryKey(),
    tenantId: text('tenant_id').notNull(),
    resourceType: text('resource_type').notNull(),
    quantity: amount('quantity').notNull(),
    unitPrice: amount('unit_price').notNull(),
    totalAmount: amount('total_amount').notNull(),
    currency: text('currency').notNull(),
    jobId: text('job_id'),
    /** JSON text as it was sent. */
    metadata: text('metadata'),
    /** SHA-256 of what was reported, to tell a repetition from another report under the same id. */
    digest: text('digest').notNull(),
    /** When it was used; decides the month and the invoice. */
    usedAt: moment('used_at').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    invoiceNumber: text('invoice_number'),
  },
  (table) => [
    foreignKey({ columns: [table.invoiceNumber], foreignColumns: [invoices.invoiceNumber] }),
    index('idx_usage_tenant_used').on(table.tenantId, table.usedAt),
    index('idx_usage_used').on(table.usedAt),
    index('idx_usage_not_invoiced')
      .on(table.tenantId, table.currency, table.usedAt)
      .where(sql`${table.invoiceNumber} is null`),
    index('idx_usage_invoice').on(table.invoiceNumber).where(sql`${table.invoiceNumber} is not null`),
  ],
);
