/** What the completion of a job writes beside the job: its receipt, what is owed for it, and the use that is billed. */
import { type SQL, sql } from 'drizzle-orm';
import { countUse, limitOf } from '../billing/quota.ts';
import {
  DEFAULT_CURRENCY,
  insertUsage,
  JOB_RECORD_PREFIX,
  JOBS_RESOURCE,
  type UsageRecord,
} from '../billing/usage-record.ts';
import {
  type CompletedJob,
  type JobOutcome,
  type Receipt,
  type ReceiptSettings,
  type ReceiptSigners,
  receiptSigners,
  signReceipt,
} from '../receipts/receipt.ts';
import { receiptKeys, receipts } from '../receipts/tables.ts';
import { type SettlementState, settlements } from './tables.ts';

export interface MoneySettings extends ReceiptSettings {
  readonly settlement_driver: 'none' | 'rpc';
}

/** What completions are made with; one per process. */
export interface Money {
  readonly signers: ReceiptSigners | undefined;
  readonly settlementDriver: 'none' | 'rpc';
}

interface CompletionEffects {
  /** The receipt, JSON; null when no signing key is set. */
  readonly receiptText: string | null;
  /** Common table expressions without the `with`, separated by commas. */
  readonly inserts: SQL;
}

export function openMoney(settings: MoneySettings): Money {
  return { signers: receiptSigners(settings), settlementDriver: settings.settlement_driver };
}

/**
 * Signs the receipt of a job and makes the inserts that belong to its completion. They stand behind a common table expression named
 * `completed`, the guarded update of the job, and insert only if that has its one row. One statement, so all of it is committed or none:
 *
 *     with completed as (update ... returning job_id), <inserts> select job_id from completed
 *
 * What is owed is what the client offered (`payment_amount`): what the miner says of prices is told in the receipt, and moves nothing.
 */
export function completionEffects(money: Money, job: CompletedJob, outcome: JobOutcome): CompletionEffects {
  const receipt = money.signers === undefined ? undefined : signReceipt(money.signers, job, outcome);
  const use = usageOf(job, outcome);
  const inserts = [
    ...(receipt === undefined || money.signers === undefined
      ? []
      : [insertKeys(money.signers), insertReceipt(money.signers, receipt, job)]),
    sql`settlement as (${insertSettlement(money, job)})`,
    sql`usage_limit as (${limitOf(use)} and exists (select from completed))`,
    sql`usage_count as (${countUse(use, sql`usage_limit`, false)})`,
    sql`usage as (${insertUsage(use, sql`from completed`)})`,
  ];
  return { receiptText: receipt?.text ?? null, inserts: sql.join(inserts, sql`, `) };
}

/** The public keys are kept with the first receipt they sign, so that none is ever without its key. */
function insertKeys({ signing, attestation }: ReceiptSigners): SQL {
  const rows = [sql`(${signing.keyId}, 'signing')`];
  if (attestation !== undefined && attestation.keyId !== signing.keyId)
    rows.push(sql`(${attestation.keyId}, 'attestation')`);
  return sql`receipt_key as (insert into ${receiptKeys} (key_id, use)
    select k.key_id, k.use from completed, (values ${sql.join(rows, sql`, `)}) k (key_id, use)
    on conflict (key_id) do nothing)`;
}

function insertReceipt({ signing }: ReceiptSigners, receipt: Receipt, job: CompletedJob): SQL {
  return sql`receipt as (insert into ${receipts} (receipt_id, job_id, client_id, key_id, body)
    select ${receipt.receiptId}, ${job.jobId}, ${job.clientId}, ${signing.keyId}, ${receipt.text} from completed)`;
}

function insertSettlement({ settlementDriver }: Money, job: CompletedJob): SQL {
  const owed = job.paymentAmount ?? '0';
  const isNothing = /^0*(\.0*)?$/.test(owed);
  const state: SettlementState = settlementDriver === 'none' || isNothing ? 'kept' : 'pending';
  return sql`insert into ${settlements} (job_id, buyer, provider, amount, currency, driver, state)
    select ${job.jobId}, ${job.clientId}, ${job.minerId}, ${owed}::numeric, ${job.paymentCurrency}, ${settlementDriver}, ${state}
    from completed`;
}

function usageOf(job: CompletedJob, outcome: JobOutcome): UsageRecord {
  const owed = job.paymentAmount ?? '0';
  return {
    id: `${JOB_RECORD_PREFIX}${job.jobId}`,
    tenantId: job.clientId,
    resourceType: JOBS_RESOURCE,
    quantity: '1',
    unitPrice: owed,
    totalAmount: owed,
    currency: job.paymentCurrency ?? DEFAULT_CURRENCY,
    jobId: job.jobId,
    metadata: null,
    usedAt: new Date(outcome.completedAtMs),
  };
}
