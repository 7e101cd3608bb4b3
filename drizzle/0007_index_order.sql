DROP INDEX "poolhub"."idx_feedback_miner_time";--> statement-breakpoint
DROP INDEX "coordinator"."idx_settlements_created";--> statement-breakpoint
CREATE INDEX "idx_feedback_miner_time" ON "poolhub"."feedback" USING btree ("miner_id","created_at" DESC NULLS FIRST);--> statement-breakpoint
CREATE INDEX "idx_settlements_created" ON "coordinator"."settlements" USING btree ("created_at" DESC NULLS FIRST,"job_id" DESC NULLS FIRST);