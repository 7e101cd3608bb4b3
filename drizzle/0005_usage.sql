CREATE TABLE "poolhub"."usage_pause" (
	"is_only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"until" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."usage_records" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"feedback_id" bigint,
	"request_key" text,
	"request_digest" text,
	"tenant_id" text,
	"miner_id" text,
	"job_id" text,
	"resource_type" text NOT NULL,
	"quantity" numeric(20, 8) NOT NULL,
	"unit_price" numeric(20, 8) NOT NULL,
	"total_amount" numeric(20, 8) NOT NULL,
	"metadata" jsonb NOT NULL,
	"used_at" timestamp (3) with time zone NOT NULL,
	"due_at" timestamp (3) with time zone,
	"claim" uuid,
	"attempts" integer DEFAULT 0 NOT NULL,
	"last_error" text,
	"sent_at" timestamp (3) with time zone,
	CONSTRAINT "usage_total" CHECK ("poolhub"."usage_records"."total_amount" = round("poolhub"."usage_records"."quantity" * "poolhub"."usage_records"."unit_price", 8)),
	CONSTRAINT "usage_sent_is_not_due" CHECK ("poolhub"."usage_records"."sent_at" is null or "poolhub"."usage_records"."due_at" is null)
);
--> statement-breakpoint
ALTER TABLE "poolhub"."usage_records" ADD CONSTRAINT "usage_records_feedback_id_feedback_id_fk" FOREIGN KEY ("feedback_id") REFERENCES "poolhub"."feedback"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "idx_usage_feedback_resource" ON "poolhub"."usage_records" USING btree ("feedback_id","resource_type");--> statement-breakpoint
CREATE UNIQUE INDEX "idx_usage_request_key" ON "poolhub"."usage_records" USING btree ("request_key");--> statement-breakpoint
CREATE INDEX "idx_usage_waiting" ON "poolhub"."usage_records" USING btree ("used_at") WHERE "poolhub"."usage_records"."sent_at" is null and "poolhub"."usage_records"."due_at" is null;--> statement-breakpoint
CREATE INDEX "idx_usage_due" ON "poolhub"."usage_records" USING btree ("due_at") WHERE "poolhub"."usage_records"."due_at" is not null;--> statement-breakpoint
CREATE INDEX "idx_usage_no_tenant" ON "poolhub"."usage_records" USING btree ("miner_id") WHERE "poolhub"."usage_records"."tenant_id" is null;--> statement-breakpoint
CREATE INDEX "idx_usage_sent" ON "poolhub"."usage_records" USING btree ("sent_at") WHERE "poolhub"."usage_records"."sent_at" is not null;--> statement-breakpoint
CREATE INDEX "idx_usage_tenant_time" ON "poolhub"."usage_records" USING btree ("tenant_id","used_at");--> statement-breakpoint
CREATE INDEX "idx_usage_time" ON "poolhub"."usage_records" USING btree ("used_at");