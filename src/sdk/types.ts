import type * as v from 'valibot';
import type * as admin from '../hub/admin/schema.ts';
import type * as billing from '../hub/billing/schema.ts';
import type * as matching from '../hub/matching/schema.ts';
import type * as miners from '../hub/miners/schema.ts';
import type * as hub from '../hub/schema.ts';
import type * as sla from '../hub/sla/schema.ts';
import type * as trust from '../hub/trust/schema.ts';

export type RegisterRequest = v.InferInput<typeof miners.RegisterRequest>;
export type RegisterAnswer = v.InferOutput<typeof miners.RegisterAnswer>;
export type UpdateRequest = Omit<v.InferInput<typeof miners.UpdateRequest>, 'session_token'>;
export type HeartbeatFrame = v.InferInput<typeof miners.HeartbeatFrame>;
export type HeartbeatAnswer = v.InferOutput<typeof miners.HeartbeatAnswer>;
export type LeaseAnswer = v.InferOutput<typeof miners.LeaseAnswer>;
export type CommandRequest = v.InferInput<typeof miners.CommandRequest>;
export type PendingCommand = v.InferOutput<typeof miners.PendingCommand>;
export type PriceOverrideRequest = v.InferInput<typeof miners.PriceOverrideRequest>;
export type ListQuery = v.InferInput<typeof miners.ListQuery>;

export type MinerPage = v.InferOutput<typeof admin.MinerPage>;
export type MinerDetail = v.InferOutput<typeof admin.MinerDetail>;
export type KeyAnswer = v.InferOutput<typeof admin.KeyAnswer>;
export type CommandAnswer = v.InferOutput<typeof admin.CommandAnswer>;

export type MatchRequest = v.InferInput<typeof matching.MatchRequest>;
export type MatchAnswer = v.InferOutput<typeof matching.MatchAnswer>;
export type Candidate = MatchAnswer['candidates'][number];
export type ExplainRequest = v.InferInput<typeof matching.ExplainRequest>;

export type ExplainAnswer = v.InferOutput<typeof matching.ExplainAnswer>;

export type FeedbackRequest = v.InferInput<typeof trust.FeedbackRequest>;
export type FeedbackAnswer =
  | v.InferOutput<typeof trust.FeedbackAnswer>
  | v.InferOutput<typeof trust.FeedbackJournaled>;

export type UsageQuery = v.InferInput<typeof billing.UsageQuery>;
export type UsageReport = v.InferOutput<typeof billing.UsageReport>;
export type FailuresQuery = v.InferInput<typeof billing.FailuresQuery>;
export type UsageFailure = v.InferOutput<typeof billing.FailuresAnswer>[number];
export type BillingSyncRequest = v.InferInput<typeof billing.SyncRequest>;
export type BillingSync = v.InferOutput<typeof billing.SyncAnswer>;

export type HealthAnswer = v.InferOutput<typeof hub.HealthAnswer>;

export type SlaMetricsQuery = v.InferInput<typeof sla.MetricsQuery>;
export type SlaMetrics = v.InferOutput<typeof sla.MetricsAnswer>;
export type SlaViolations = v.InferOutput<typeof sla.ViolationsAnswer>;
export type SlaStatus = v.InferOutput<typeof sla.StatusAnswer>;
export type CapacityForecast = v.InferOutput<typeof sla.ForecastAnswer>;
export type CapacityRecommendations = v.InferOutput<typeof sla.RecommendationsAnswer>;
