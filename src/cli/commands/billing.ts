import type { BillingSync, UsageFailure, UsageReport } from '../../sdk/types.ts';
import { defineCommand } from '../command.ts';
import { HUB_OPTIONS, openClient } from '../hub-access.ts';
import { wholeOption } from '../numbers.ts';
import { formatTable } from '../table.ts';

const MAX_HOURS = 24 * 366;
const MAX_FAILURES = 200;

/** The hub answers within 10 s, with what has been sent by then. */
const SYNC_TIMEOUT_MS = 30_000;

const hours = (help: string) => ({ type: 'string', value: 'n', default: '24', help }) as const;
const json = { type: 'boolean', help: 'print JSON' } as const;
const NOTES =
  'Needs COORDINATOR_SHARED_SECRET or ADMIN_API_KEY in the environment. Decimals are exact, in USD.';

export const billingUsage = defineCommand({
  name: 'billing usage',
  summary: 'Shows what was used, by resource and tenant, and how much of it the coordinator has.',
  options: {
    ...HUB_OPTIONS,
    tenant: { type: 'string', value: 'id', help: 'of one tenant alone' },
    hours: hours('how far to look back'),
    json,
  },
  notes: NOTES,
  async run({ values }, terminal) {
    const client = openClient(values.url, terminal);
    const lookBack = wholeOption('hours', values.hours, { min: 1, max: MAX_HOURS });
    const report = await client.billingUsage({
      hours: String(lookBack),
      ...(values.tenant === undefined ? {} : { tenant_id: values.tenant }),
    });
    terminal.out(values.json ? JSON.stringify(report) : usageText(report));
    return 0;
  },
});

export const billingSync = defineCommand({
  name: 'billing sync',
  summary: 'Has the worker send what was used to the coordinator, and waits up to 10 s for it.',
  options: {
    ...HUB_OPTIONS,
    miner: { type: 'string', value: 'id', help: 'of one miner alone' },
    hours: hours('of use that is sent; running it twice bills nothing twice'),
    json,
  },
  notes: `Exits with 1 when records could not be sent yet; the worker goes on with them. ${NOTES}`,
  async run({ values }, terminal) {
    const client = openClient(values.url, terminal, { timeoutMs: SYNC_TIMEOUT_MS });
    const hours_back = wholeOption('hours', values.hours, { min: 1, max: MAX_HOURS });
    const miner = values.miner === undefined ? {} : { miner_id: values.miner };
    const answer = await client.billingSync({ hours_back, ...miner });
    terminal.out(values.json ? JSON.stringify(answer) : syncText(answer));
    return answer.status === 'synced' ? 0 : 1;
  },
});

export const billingFailures = defineCommand({
  name: 'billing failures',
  summary: 'Lists the records that were sent and that the coordinator does not have, and why.',
  options: {
    ...HUB_OPTIONS,
    tenant: { type: 'string', value: 'id', help: 'of one tenant alone' },
    refused: { type: 'boolean', help: 'only those that the coordinator said no to' },
    json,
  },
  notes: `Shows the ${MAX_FAILURES} of the newest uses. "billing sync" tries them again at once. ${NOTES}`,
  async run({ values }, terminal) {
    const client = openClient(values.url, terminal);
    const failures = await client.billingFailures({
      limit: String(MAX_FAILURES),
      ...(values.tenant === undefined ? {} : { tenant_id: values.tenant }),
      ...(values.refused ? { state: 'refused' } : {}),
    });
    terminal.out(values.json ? JSON.stringify(failures) : failuresText(failures));
    return 0;
  },
});

function failuresText(failures: readonly UsageFailure[]): string {
  if (failures.length === 0) return 'No record has failed.';
  return formatTable(
    ['RECORD', 'STATE', 'TENANT', 'RESOURCE', 'USD', 'TRIES', 'NEXT', 'WHY'],
    failures.map((row) => [
      row.id,
      row.state,
      row.tenant_id,
      row.resource_type,
      row.total_amount,
      row.attempts,
      row.next_attempt_at,
      row.last_error,
    ]),
  );
}

function usageText(report: UsageReport): string {
  const { by_resource, by_tenant, total_amount, records, period, sync } = report;
  if (records === 0) return `Nothing was used in the last ${period.hours} h.`;
  const resources = formatTable(
    ['RESOURCE', 'QUANTITY', 'USD', 'RECORDS'],
    by_resource.map((row) => [row.resource_type, row.quantity, row.total_amount, row.records]),
  );
  const tenants = formatTable(
    ['TENANT', 'USD', 'RECORDS'],
    by_tenant.map((row) => [row.tenant_id ?? '(not known yet)', row.total_amount, row.records]),
  );
  const unsent = sync.unsent === 0 ? 'the coordinator has all of it' : `${sync.unsent} records are not sent`;
  const error = sync.last_error === null ? '' : `; ${sync.failing} failed, last: ${sync.last_error}`;
  const total = `${total_amount} USD in ${records} records of the last ${period.hours} h; ${unsent}${error}`;
  return [resources, '', tenants, '', total].join('\n');
}

function syncText({ status, sent, unsent, failing, last_error, hint }: BillingSync): string {
  if (status === 'synced') return `Synced: ${sent} records sent.`;
  const error = last_error === null ? '' : `, ${failing} failed, last: ${last_error}`;
  const then = hint === null ? 'The worker goes on.' : `${hint[0]?.toUpperCase()}${hint.slice(1)}.`;
  return `Pending: ${sent} records sent, ${unsent} not yet${error}. ${then}`;
}
