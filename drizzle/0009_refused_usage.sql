DROP INDEX "poolhub"."idx_sla_deliveries_due";--> statement-breakpoint
ALTER TABLE "poolhub"."usage_records" ADD COLUMN "refused_at" timestamp (3) with time zone;--> statement-breakpoint
CREATE INDEX "idx_usage_failures" ON "poolhub"."usage_records" USING btree ("used_at","id") WHERE "poolhub"."usage_records"."last_error" is not null;--> statement-breakpoint
CREATE INDEX "idx_sla_metrics_unmerged" ON "poolhub"."sla_metrics" USING btree ("starts_at") WHERE "poolhub"."sla_metrics"."span_sec" < 86400;--> statement-breakpoint
CREATE INDEX "idx_sla_deliveries_due" ON "poolhub"."sla_deliveries" USING btree ("webhook_id","next_at") WHERE "poolhub"."sla_deliveries"."failed_at" is null;