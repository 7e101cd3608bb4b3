CREATE SCHEMA "coordinator";
--> statement-breakpoint
CREATE TABLE "coordinator"."invoice_numbers" (
	"tenant_id" text NOT NULL,
	"day" date NOT NULL,
	"last" integer NOT NULL,
	CONSTRAINT "invoice_numbers_tenant_id_day_pk" PRIMARY KEY("tenant_id","day")
);
--> statement-breakpoint
CREATE TABLE "coordinator"."invoices" (
	"invoice_number" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"period_start" timestamp (3) with time zone NOT NULL,
	"period_end" timestamp (3) with time zone NOT NULL,
	"currency" text NOT NULL,
	"status" text NOT NULL,
	"lines" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"subtotal" numeric(38, 8) DEFAULT '0' NOT NULL,
	"tax_rate" numeric(9, 8) NOT NULL,
	"tax" numeric(38, 8) DEFAULT '0' NOT NULL,
	"total_amount" numeric(38, 8) DEFAULT '0' NOT NULL,
	"due_date" date NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "invoices_status" CHECK ("coordinator"."invoices"."status" in ('collecting', 'draft')),
	CONSTRAINT "invoices_period" CHECK ("coordinator"."invoices"."period_start" < "coordinator"."invoices"."period_end")
);
--> statement-breakpoint
CREATE TABLE "coordinator"."plan_limits" (
	"plan" text NOT NULL,
	"resource_type" text NOT NULL,
	"monthly_limit" numeric(20, 8) NOT NULL,
	CONSTRAINT "plan_limits_plan_resource_type_pk" PRIMARY KEY("plan","resource_type")
);
--> statement-breakpoint
CREATE TABLE "coordinator"."quota_use" (
	"tenant_id" text NOT NULL,
	"resource_type" text NOT NULL,
	"month" date NOT NULL,
	"used" numeric(38, 8) NOT NULL,
	CONSTRAINT "quota_use_tenant_id_resource_type_month_pk" PRIMARY KEY("tenant_id","resource_type","month")
);
--> statement-breakpoint
CREATE TABLE "coordinator"."tenants" (
	"tenant_id" text PRIMARY KEY NOT NULL,
	"plan" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "coordinator"."usage_records" (
	"seq" bigint GENERATED ALWAYS AS IDENTITY (sequence name "coordinator"."usage_records_seq_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"id" text PRIMARY KEY NOT NULL,
	"tenant_id" text NOT NULL,
	"resource_type" text NOT NULL,
	"quantity" numeric(20, 8) NOT NULL,
	"unit_price" numeric(20, 8) NOT NULL,
	"total_amount" numeric(20, 8) NOT NULL,
	"currency" text NOT NULL,
	"job_id" text,
	"metadata" text,
	"digest" text NOT NULL,
	"used_at" timestamp (3) with time zone NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"invoice_number" text
);
--> statement-breakpoint
CREATE TABLE "coordinator"."hub_outbox" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "coordinator"."hub_outbox_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"job_id" text NOT NULL,
	"miner_id" text NOT NULL,
	"outcome" text NOT NULL,
	"reservation_id" text,
	"latency_ms" double precision,
	"fail_code" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"due_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"done_at" timestamp (3) with time zone,
	"refusal" text
);
--> statement-breakpoint
CREATE TABLE "coordinator"."job_offers" (
	"job_id" text NOT NULL,
	"miner_id" text NOT NULL,
	"rank" integer NOT NULL,
	"reservation_id" text,
	"expires_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "job_offers_job_id_miner_id_pk" PRIMARY KEY("job_id","miner_id")
);
--> statement-breakpoint
CREATE TABLE "coordinator"."jobs" (
	"job_id" text PRIMARY KEY NOT NULL,
	"client_id" text NOT NULL,
	"idempotency_key" text,
	"request_digest" text NOT NULL,
	"state" text DEFAULT 'QUEUED' NOT NULL,
	"revision" integer DEFAULT 1 NOT NULL,
	"payload" text NOT NULL,
	"constraints" text NOT NULL,
	"need_gpu" text,
	"need_cuda" integer,
	"need_vram_mb" integer,
	"need_models" text[],
	"need_region" text,
	"need_max_price" numeric(20, 8),
	"payment_amount" numeric(20, 8),
	"payment_currency" text,
	"requested_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"open_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL,
	"assigned_miner_id" text,
	"slot" integer,
	"attempts" integer DEFAULT 0 NOT NULL,
	"started_at" timestamp (3) with time zone,
	"finished_at" timestamp (3) with time zone,
	"result" text,
	"metrics" text,
	"error_code" text,
	"error_message" text,
	CONSTRAINT "jobs_state" CHECK ("coordinator"."jobs"."state" in ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELED', 'EXPIRED')),
	CONSTRAINT "jobs_slot" CHECK (("coordinator"."jobs"."state" = 'RUNNING') = ("coordinator"."jobs"."slot" is not null))
);
--> statement-breakpoint
CREATE TABLE "coordinator"."used_signatures" (
	"digest" text PRIMARY KEY NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "coordinator"."miners" (
	"miner_id" text PRIMARY KEY NOT NULL,
	"capabilities" jsonb NOT NULL,
	"concurrency" integer NOT NULL,
	"region" text,
	"status" text NOT NULL,
	"inflight" integer DEFAULT 0 NOT NULL,
	"metadata" jsonb,
	"session_digest" text NOT NULL,
	"registered_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_seen_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"jobs_completed" bigint DEFAULT 0 NOT NULL,
	"jobs_failed" bigint DEFAULT 0 NOT NULL,
	"busy_ms" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "miners_status" CHECK ("coordinator"."miners"."status" in ('ONLINE', 'DRAINING', 'OFFLINE'))
);
--> statement-breakpoint
CREATE TABLE "coordinator"."receipt_keys" (
	"key_id" text PRIMARY KEY NOT NULL,
	"use" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "coordinator"."receipts" (
	"seq" bigint GENERATED ALWAYS AS IDENTITY (sequence name "coordinator"."receipts_seq_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"receipt_id" text PRIMARY KEY NOT NULL,
	"job_id" text NOT NULL,
	"client_id" text NOT NULL,
	"key_id" text NOT NULL,
	"body" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "coordinator"."settlements" (
	"job_id" text PRIMARY KEY NOT NULL,
	"buyer" text NOT NULL,
	"provider" text NOT NULL,
	"amount" numeric(20, 8) NOT NULL,
	"currency" text,
	"driver" text NOT NULL,
	"state" text NOT NULL,
	"goal" text DEFAULT 'release' NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"due_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"claim" text,
	"last_error" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "settlements_state" CHECK ("coordinator"."settlements"."state" in ('kept', 'pending', 'escrowed', 'released', 'refunded', 'rejected')),
	CONSTRAINT "settlements_goal" CHECK ("coordinator"."settlements"."goal" in ('release', 'refund')),
	CONSTRAINT "settlements_driver" CHECK ("coordinator"."settlements"."driver" in ('none', 'rpc'))
);
--> statement-breakpoint
ALTER TABLE "coordinator"."quota_use" ADD CONSTRAINT "quota_use_tenant_id_tenants_tenant_id_fk" FOREIGN KEY ("tenant_id") REFERENCES "coordinator"."tenants"("tenant_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "coordinator"."usage_records" ADD CONSTRAINT "usage_records_invoice_number_invoices_invoice_number_fk" FOREIGN KEY ("invoice_number") REFERENCES "coordinator"."invoices"("invoice_number") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "coordinator"."job_offers" ADD CONSTRAINT "job_offers_job_id_jobs_job_id_fk" FOREIGN KEY ("job_id") REFERENCES "coordinator"."jobs"("job_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "coordinator"."receipts" ADD CONSTRAINT "receipts_key_id_receipt_keys_key_id_fk" FOREIGN KEY ("key_id") REFERENCES "coordinator"."receipt_keys"("key_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "idx_invoices_period" ON "coordinator"."invoices" USING btree ("tenant_id","period_start","period_end","currency");--> statement-breakpoint
CREATE INDEX "idx_usage_tenant_used" ON "coordinator"."usage_records" USING btree ("tenant_id","used_at");--> statement-breakpoint
CREATE INDEX "idx_usage_used" ON "coordinator"."usage_records" USING btree ("used_at");--> statement-breakpoint
CREATE INDEX "idx_usage_not_invoiced" ON "coordinator"."usage_records" USING btree ("tenant_id","currency","used_at") WHERE "coordinator"."usage_records"."invoice_number" is null;--> statement-breakpoint
CREATE INDEX "idx_usage_invoice" ON "coordinator"."usage_records" USING btree ("invoice_number") WHERE "coordinator"."usage_records"."invoice_number" is not null;--> statement-breakpoint
CREATE UNIQUE INDEX "idx_hub_outbox_once" ON "coordinator"."hub_outbox" USING btree ("job_id","miner_id","outcome");--> statement-breakpoint
CREATE INDEX "idx_hub_outbox_due" ON "coordinator"."hub_outbox" USING btree ("due_at","id") WHERE "coordinator"."hub_outbox"."done_at" is null;--> statement-breakpoint
CREATE INDEX "idx_hub_outbox_done" ON "coordinator"."hub_outbox" USING btree ("done_at") WHERE "coordinator"."hub_outbox"."done_at" is not null;--> statement-breakpoint
CREATE INDEX "idx_job_offers_miner" ON "coordinator"."job_offers" USING btree ("miner_id","expires_at");--> statement-breakpoint
CREATE INDEX "idx_job_offers_expiry" ON "coordinator"."job_offers" USING btree ("expires_at");--> statement-breakpoint
CREATE UNIQUE INDEX "idx_jobs_idempotency" ON "coordinator"."jobs" USING btree ("client_id","idempotency_key") WHERE "coordinator"."jobs"."idempotency_key" is not null;--> statement-breakpoint
CREATE INDEX "idx_jobs_client" ON "coordinator"."jobs" USING btree ("client_id","job_id");--> statement-breakpoint
CREATE INDEX "idx_jobs_client_state" ON "coordinator"."jobs" USING btree ("client_id","state","job_id");--> statement-breakpoint
CREATE INDEX "idx_jobs_state" ON "coordinator"."jobs" USING btree ("state","job_id");--> statement-breakpoint
CREATE INDEX "idx_jobs_queued" ON "coordinator"."jobs" USING btree ("requested_at","job_id") WHERE "coordinator"."jobs"."state" = 'QUEUED';--> statement-breakpoint
CREATE INDEX "idx_jobs_due" ON "coordinator"."jobs" USING btree ("expires_at") WHERE "coordinator"."jobs"."state" in ('QUEUED', 'RUNNING');--> statement-breakpoint
CREATE UNIQUE INDEX "idx_jobs_slot" ON "coordinator"."jobs" USING btree ("assigned_miner_id","slot") WHERE "coordinator"."jobs"."state" = 'RUNNING';--> statement-breakpoint
CREATE INDEX "idx_jobs_miner" ON "coordinator"."jobs" USING btree ("assigned_miner_id","job_id");--> statement-breakpoint
CREATE INDEX "idx_used_signatures_expiry" ON "coordinator"."used_signatures" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "idx_coordinator_miners_alive" ON "coordinator"."miners" USING btree ("last_seen_at") WHERE "coordinator"."miners"."status" <> 'OFFLINE';--> statement-breakpoint
CREATE INDEX "idx_coordinator_miners_session" ON "coordinator"."miners" USING btree ("session_digest");--> statement-breakpoint
CREATE UNIQUE INDEX "idx_receipts_job" ON "coordinator"."receipts" USING btree ("job_id");--> statement-breakpoint
CREATE INDEX "idx_settlements_due" ON "coordinator"."settlements" USING btree ("due_at") WHERE "coordinator"."settlements"."state" in ('pending', 'escrowed');--> statement-breakpoint
CREATE INDEX "idx_settlements_created" ON "coordinator"."settlements" USING btree ("created_at" DESC NULLS LAST,"job_id" DESC NULLS LAST);