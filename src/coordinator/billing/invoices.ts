/**
 * Invoices. One is made in three steps, each a statement of its own, so that no step is long however many records there are:
 * its number is taken, the records are put on it in batches, it is closed and summed up. Whoever asks for the same period goes on where
 * the others are, or where somebody has died. An invoice does not change any more: what is reported of its period afterwards comes on the next
 * invoice of the tenant, in lines of its own.
 */
import { and, eq, type SQL, sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import { isUniqueViolation } from '../../platform/db-errors.ts';
import { invoiceNumbers, invoices, usageRecords } from './tables.ts';

export type InvoiceRow = typeof invoices.$inferSelect;

/** What an invoice is of. */
export interface InvoicePeriod {
  readonly tenantId: string;
  readonly start: Date;
  /** Not part of it any more. */
  readonly end: Date;
  readonly currency: string;
}

export interface InvoiceSettings {
  /** Share of the subtotal, such as 0.19. */
  readonly billing_tax_rate: number;
  readonly billing_due_days: number;
}

const BATCH = 5000;
const DAY_MS = 86_400_000;
const RATE_PLACES = 8;

/** Far more than clocks differ: a number that is counted anew would be given twice. */
const NUMBER_KEEP_DAYS = 30;

/**
 * The invoice of a period: the one there is, else a new one with the records of the period that are on no invoice yet, and those of former periods
 * that came after their invoices.
 * @returns undefined when there is nothing to put on one
 */
export async function makeInvoice(
  db: Database,
  period: InvoicePeriod,
  settings: InvoiceSettings,
): Promise<InvoiceRow | undefined> {
  const begun =
    (await db.run((orm) => ofPeriod(orm, period))) ?? (await db.run((orm) => begin(orm, period, settings)));
  if (begun === undefined) return undefined;
  if (begun.status === 'collecting') {
    for (const which of [isOfPeriod(period), isLate(period)])
      while ((await db.run((orm) => collect(orm, begun, which))) > 0);
    await db.run((orm) => close(orm, begun.invoiceNumber));
  }
  if (begun.status !== 'draft') await db.run((orm) => sumUp(orm, begun.invoiceNumber));
  return db.run((orm) => findInvoice(orm, begun.invoiceNumber));
}

export async function findInvoice(orm: Orm, invoiceNumber: string): Promise<InvoiceRow | undefined> {
  const [row] = await orm.select().from(invoices).where(eq(invoices.invoiceNumber, invoiceNumber));
  return row;
}

async function ofPeriod(orm: Orm, { tenantId, start, end, currency }: InvoicePeriod) {
  const [row] = await orm
    .select()
    .from(invoices)
    .where(
      and(
        eq(invoices.tenantId, tenantId),
        eq(invoices.periodStart, start),
        eq(invoices.periodEnd, end),
        eq(invoices.currency, currency),
      ),
    );
  return row;
}

/** Takes the next number of the tenant and day. If another has begun the same period meanwhile, the number is not used up. */
async function begin(
  orm: Orm,
  period: InvoicePeriod,
  settings: InvoiceSettings,
  now = new Date(),
): Promise<InvoiceRow | undefined> {
  const { tenantId, start, end, currency } = period;
  const day = now.toISOString().slice(0, 10);
  const due = new Date(now.getTime() + settings.billing_due_days * DAY_MS).toISOString().slice(0, 10);
  try {
    await orm.execute(sql`
      with anything as (
        (select from ${usageRecords} where ${isOfPeriod(period)} limit 1)
        union all (select from ${usageRecords} where ${isLate(period)} limit 1) limit 1
      ), numbered as (
        insert into ${invoiceNumbers} as counter (tenant_id, day, last)
        select ${tenantId}, ${day}::date, 1 from anything
        on conflict (tenant_id, day) do update set last = counter.last + 1
        returning last
      )
      insert into ${invoices} (invoice_number, tenant_id, period_start, period_end, currency, status, tax_rate, due_date)
      select 'INV-' || ${tenantId}::text || ${`-${day.replaceAll('-', '')}-`}::text
          || lpad(last::text, greatest(4, length(last::text)), '0'),
        ${tenantId}, ${start.toISOString()}::timestamptz, ${end.toISOString()}::timestamptz, ${currency}, 'collecting',
        ${settings.billing_tax_rate.toFixed(RATE_PLACES)}::numeric, ${due}::date
      from numbered`);
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
  }
  return ofPeriod(orm, period);
}

/** Forgets the counters of days that are over: no invoice of theirs is begun any more. At most `limit`. @returns how many */
export async function forgetInvoiceNumbers(orm: Orm, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    delete from ${invoiceNumbers} where (tenant_id, day) in (
      select tenant_id, day from ${invoiceNumbers} where day < current_date - ${NUMBER_KEEP_DAYS}::int
      order by tenant_id, day limit ${limit} for update skip locked)
    returning 1 as one`);
  return rows.length;
}

/**
 * Puts a batch of records on the invoice, as long as it is open; in the order of the index, so that no batch looks at more than it takes, and batches
 * of several invoices lock their records in the same order.
 * @returns how many
 */
async function collect(
  orm: Orm,
  { invoiceNumber }: Pick<InvoiceRow, 'invoiceNumber'>,
  which: SQL,
): Promise<number> {
  const rows = await orm.execute<{ n: number }>(sql`
    with open as materialized (
      select invoice_number from ${invoices}
      where invoice_number = ${invoiceNumber} and status = 'collecting' for share
    ), free as materialized (
      select id from ${usageRecords} where ${which} and exists (select from open)
      order by used_at limit ${BATCH} for update
    ), taken as (
      update ${usageRecords} set invoice_number = ${invoiceNumber} from free
      where ${usageRecords.id} = free.id and ${usageRecords.invoiceNumber} is null returning 1
    )
    select count(*)::int as n from taken`);
  return rows[0]?.n ?? 0;
}

/** Waits for the batches under way; none can begin after it. */
async function close(orm: Orm, invoiceNumber: string): Promise<void> {
  await orm
    .update(invoices)
    .set({ status: 'closing' })
    .where(and(eq(invoices.invoiceNumber, invoiceNumber), eq(invoices.status, 'collecting')));
}

/** Sums the records up. Nothing is put on a closed invoice, so whoever does it gets the same sums. */
async function sumUp(orm: Orm, invoiceNumber: string): Promise<void> {
  await orm.execute(sql`
    with lines as materialized (
      select u.resource_type, u.used_at < i.period_start as is_late, sum(u.quantity) as quantity, sum(u.total_amount) as amount,
        count(*) as records, case when min(u.unit_price) = max(u.unit_price) then min(u.unit_price) end as unit_price
      from ${usageRecords} u join ${invoices} i using (invoice_number) where u.invoice_number = ${invoiceNumber} group by 1, 2
    ), summed as (
      select coalesce(sum(amount), 0) as subtotal, coalesce(jsonb_agg(jsonb_build_object(
          'resource_type', resource_type, 'quantity', trim_scale(quantity)::text,
          'unit_price', trim_scale(unit_price)::text, 'amount', trim_scale(amount)::text, 'records', records)
          || case when is_late then '{"late": true}'::jsonb else '{}' end order by is_late, resource_type), '[]'::jsonb) as lines
      from lines
    )
    update ${invoices} set status = 'draft', lines = summed.lines, subtotal = summed.subtotal,
      tax = round(summed.subtotal * tax_rate, 8), total_amount = summed.subtotal + round(summed.subtotal * tax_rate, 8)
    from summed where invoice_number = ${invoiceNumber} and status = 'closing'`);
}

/** The records of a period that are on no invoice. */
function isOfPeriod(period: InvoicePeriod): SQL {
  return isFree(period, at(period.start), at(period.end));
}

/** Those of former periods that are on no invoice although their period was invoiced; found from the invoices, so that no others are read. */
function isLate(period: InvoicePeriod): SQL {
  const { tenantId, start, currency } = period;
  return sql`${usageRecords.id} in (
    select late.id from ${invoices} i, lateral (
      select id from ${usageRecords} where ${isFree(period, sql`i.period_start`, sql`least(i.period_end, ${at(start)})`)}) late
    where i.tenant_id = ${tenantId} and i.currency = ${currency} and i.period_start < ${at(start)} and i.status <> 'collecting')
    and ${usageRecords.invoiceNumber} is null`;
}

function isFree({ tenantId, currency }: InvoicePeriod, start: SQL, end: SQL): SQL {
  return sql`${usageRecords.tenantId} = ${tenantId} and ${usageRecords.currency} = ${currency}
    and ${usageRecords.invoiceNumber} is null and ${usageRecords.usedAt} >= ${start} and ${usageRecords.usedAt} < ${end}`;
}

function at(moment: Date): SQL {
  return sql`${moment.toISOString()}::timestamptz`;
}
