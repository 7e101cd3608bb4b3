/** An invoice as JSON and as a page to print. */
import { createHash } from 'node:crypto';
import { html, raw } from 'hono/html';
import type { InvoiceRow } from './invoices.ts';

/** The answer of the API. Decimals in their shortest form. */
export function viewInvoice(row: InvoiceRow) {
  return {
    invoice_number: row.invoiceNumber,
    status: 'draft' as const,
    tenant_id: row.tenantId,
    period_start: row.periodStart.toISOString(),
    period_end: row.periodEnd.toISOString(),
    line_items: row.lines,
    subtotal: shortest(row.subtotal),
    tax_rate: shortest(row.taxRate),
    tax: shortest(row.tax),
    total_amount: shortest(row.totalAmount),
    currency: row.currency,
    due_date: row.dueDate,
    created_at: row.createdAt.toISOString(),
  };
}

const STYLE = `
body { font: 11pt/1.45 system-ui, sans-serif; color: #1a1a1a; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; margin: 0 0 2rem; }
dt { color: #595959; }
dd { margin: 0; overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; }
th, td { text-align: right; padding: .4rem .5rem; border-bottom: 1px solid #d0d0d0; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
tfoot td { border-bottom: 0; }
tfoot tr:last-child td { font-weight: 700; border-top: 2px solid #1a1a1a; }
@media print { @page { margin: 18mm; } body { margin: 0; max-width: none; } tr { break-inside: avoid; } thead { display: table-header-group; } }
`;

/** Only this style sheet; no script, no picture, nothing from elsewhere. */
export const PAGE_POLICY = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

/** A page of its own, for paper. Everything in it is escaped. */
export function invoicePage(row: InvoiceRow): string {
  const invoice = viewInvoice(row);
  const money = (amount: string) => `${twoPlaces(amount)} ${invoice.currency}`;
  const percent = `${shiftTwo(row.taxRate)} %`;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Invoice ${invoice.invoice_number}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<h1>Invoice ${invoice.invoice_number}</h1>
<dl>
<dt>Tenant</dt><dd>${invoice.tenant_id}</dd>
<dt>Status</dt><dd>${invoice.status}</dd>
<dt>Period</dt><dd>${moment(invoice.period_start)} to ${moment(invoice.period_end)} (UTC)</dd>
<dt>Issued</dt><dd>${invoice.created_at.slice(0, 10)}</dd>
<dt>Due</dt><dd>${invoice.due_date}</dd>
</dl>
<table>
<thead><tr><th scope="col">Item</th><th scope="col">Quantity</th><th scope="col">Unit price</th><th scope="col">Amount</th></tr></thead>
<tbody>
${invoice.line_items.map(
  (
    line,
  ) => html`<tr><td>${line.resource_type.replaceAll('_', ' ')}${line.late ? ', former periods' : ''}</td><td>${line.quantity}</td><td>${line.unit_price ?? 'various'}</td><td>${money(line.amount)}</td></tr>
`,
)}</tbody>
<tfoot>
<tr><td colspan="3">Subtotal</td><td>${money(invoice.subtotal)}</td></tr>
<tr><td colspan="3">Tax (${percent})</td><td>${money(invoice.tax)}</td></tr>
<tr><td colspan="3">Total</td><td>${money(invoice.total_amount)}</td></tr>
</tfoot>
</table>
</body>
</html>
`;
  return String(page);
}

/** Without trailing zeros. @param text a plain decimal */
function shortest(text: string): string {
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
}

/** At least two places, so that columns of money line up; never fewer than the amount has. */
function twoPlaces(amount: string): string {
  const [whole, fraction = ''] = amount.split('.');
  return `${whole}.${fraction.padEnd(2, '0')}`;
}

/** A share as percent: the point moves two places. @param share with all of its eight places */
function shiftTwo(share: string): string {
  const [whole = '', fraction = ''] = share.split('.');
  return shortest(`${`${whole}${fraction.slice(0, 2)}`.replace(/^0+(?=\d)/, '')}.${fraction.slice(2)}`);
}

function moment(iso: string): string {
  return iso.endsWith('T00:00:00.000Z') ? iso.slice(0, 10) : iso.slice(0, 19).replace('T', ' ');
}
