ALTER TABLE "poolhub"."usage_records" DROP CONSTRAINT "usage_records_feedback_id_feedback_id_fk";
--> statement-breakpoint
CREATE INDEX "idx_coordinator_miners_offline" ON "coordinator"."miners" USING btree ("last_seen_at") WHERE "coordinator"."miners"."status" = 'OFFLINE';