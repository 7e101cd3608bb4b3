import type * as v from 'valibot';
import type * as admin from '../coordinator/admin/schema.ts';
import type * as billing from '../coordinator/billing/schema.ts';
import type * as jobs from '../coordinator/jobs/schema.ts';
import type * as miners from '../coordinator/miners/schema.ts';
import type * as receipts from '../coordinator/receipts/schema.ts';
import type * as settlement from '../coordinator/settlement/schema.ts';

export type SubmitRequest = v.InferInput<typeof jobs.SubmitRequest>;
export type Job = v.InferOutput<typeof jobs.JobAnswer>;
export type JobsQuery = v.InferInput<typeof jobs.JobsQuery>;
export type JobPage = v.InferOutput<typeof jobs.JobPage>;
export type JobResult = v.InferOutput<typeof jobs.ResultAnswer>;

export type MinerRegistration = v.InferInput<typeof miners.RegisterRequest>;
export type MinerBeat = v.InferInput<typeof miners.HeartbeatRequest>;
export type MinerBeatAnswer = v.InferOutput<typeof miners.HeartbeatAnswer>;
export type MinerStatusAnswer = v.InferOutput<typeof miners.StatusAnswer>;
export type AssignedJob = v.InferOutput<typeof miners.AssignedJob>;
export type ResultRequest = v.InferInput<typeof miners.ResultRequest>;
export type ResultTaken = v.InferOutput<typeof miners.ResultTaken>;
export type FailRequest = v.InferInput<typeof miners.FailRequest>;

export type ReceiptPage = v.InferOutput<typeof receipts.ReceiptPage>;
export type CheckedReceipt = v.InferOutput<typeof receipts.VerifyAnswer>;
export type ReceiptKeys = v.InferOutput<typeof receipts.KeysAnswer>;

export type UsageRequest = v.InferInput<typeof billing.UsageRequest>;
export type UsageAnswer = v.InferOutput<typeof billing.UsageAnswer>;
export type BillingQuery = v.InferInput<typeof billing.MetricsQuery>;
export type BillingMetrics = v.InferOutput<typeof billing.MetricsAnswer>;
export type InvoiceRequest = v.InferInput<typeof billing.InvoiceRequest>;
export type Invoice = v.InferOutput<typeof billing.InvoiceAnswer>;
export type Plan = v.InferOutput<typeof billing.PlanAnswer>;
export type Tenant = v.InferOutput<typeof billing.TenantAnswer>;

export type CoordinatorStats = v.InferOutput<typeof admin.StatsAnswer>;
export type AdminJobsQuery = v.InferInput<typeof admin.AdminJobsQuery>;
export type AdminJobPage = v.InferOutput<typeof admin.AdminJobPage>;
export type AdminMinersQuery = v.InferInput<typeof admin.AdminMinersQuery>;
export type AdminMinerPage = v.InferOutput<typeof admin.AdminMinerPage>;
export type SettlementsQuery = v.InferInput<typeof settlement.SettlementsQuery>;
export type SettlementPage = v.InferOutput<typeof settlement.SettlementPage>;
