CREATE SCHEMA IF NOT EXISTS "poolhub";
--> statement-breakpoint
CREATE TABLE "poolhub"."miner_status" (
	"miner_id" text PRIMARY KEY NOT NULL,
	"queue_len" integer NOT NULL,
	"busy" boolean NOT NULL,
	"avg_latency_ms" double precision,
	"temp_c" double precision,
	"mem_free_gb" double precision,
	"updated_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."miners" (
	"miner_id" text PRIMARY KEY NOT NULL,
	"api_key_hash" text,
	"key_created_at" timestamp (3) with time zone,
	"key_revoked_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_seen_at" timestamp (3) with time zone,
	"removed_at" timestamp (3) with time zone,
	"addr" text,
	"proto" text,
	"gpu_vram_gb" double precision,
	"gpu_name" text,
	"gpu_count" integer,
	"cpu_cores" integer,
	"ram_gb" double precision,
	"max_parallel" integer,
	"base_price" numeric(20, 8),
	"tags" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"capabilities" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"accel" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"region" text,
	"tenant_id" text,
	"wallet_address" text,
	"profile_version" bigint DEFAULT 0 NOT NULL,
	"trust_score" double precision DEFAULT 0.5 NOT NULL,
	"trust_alpha" double precision DEFAULT 2 NOT NULL,
	"trust_beta" double precision DEFAULT 2 NOT NULL,
	"trust_at" timestamp (3) with time zone,
	"trust_seq" bigint DEFAULT 0 NOT NULL,
	"observed_latency_ms" double precision,
	"observed_latency_samples" integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."price_overrides" (
	"miner_id" text PRIMARY KEY NOT NULL,
	"price" numeric(20, 8) NOT NULL,
	"expires_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."feedback" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "poolhub"."feedback_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"job_id" text NOT NULL,
	"miner_id" text NOT NULL,
	"outcome" text NOT NULL,
	"latency_ms" double precision,
	"fail_code" text,
	"tokens_spent" numeric(20, 8),
	"reservation_id" text,
	"seq" bigint NOT NULL,
	"alpha_added" double precision NOT NULL,
	"beta_added" double precision NOT NULL,
	"half_life_days" double precision NOT NULL,
	"applied" boolean DEFAULT false NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	CONSTRAINT "feedback_outcome" CHECK ("poolhub"."feedback"."outcome" in ('accepted', 'rejected', 'failed', 'completed'))
);
--> statement-breakpoint
ALTER TABLE "poolhub"."miner_status" ADD CONSTRAINT "miner_status_miner_id_miners_miner_id_fk" FOREIGN KEY ("miner_id") REFERENCES "poolhub"."miners"("miner_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "poolhub"."price_overrides" ADD CONSTRAINT "price_overrides_miner_id_miners_miner_id_fk" FOREIGN KEY ("miner_id") REFERENCES "poolhub"."miners"("miner_id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "poolhub"."feedback" ADD CONSTRAINT "feedback_miner_id_miners_miner_id_fk" FOREIGN KEY ("miner_id") REFERENCES "poolhub"."miners"("miner_id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idx_status_updated_at" ON "poolhub"."miner_status" USING btree ("updated_at");--> statement-breakpoint
CREATE INDEX "idx_miners_region_caps_gte_vram" ON "poolhub"."miners" USING gin ("capabilities" jsonb_path_ops) WHERE "poolhub"."miners"."removed_at" is null;--> statement-breakpoint
CREATE INDEX "idx_miners_region_vram" ON "poolhub"."miners" USING btree ("region","gpu_vram_gb") WHERE "poolhub"."miners"."removed_at" is null;--> statement-breakpoint
CREATE UNIQUE INDEX "idx_feedback_job_miner_outcome" ON "poolhub"."feedback" USING btree ("job_id","miner_id","outcome");--> statement-breakpoint
CREATE UNIQUE INDEX "idx_feedback_miner_seq" ON "poolhub"."feedback" USING btree ("miner_id","seq");--> statement-breakpoint
CREATE INDEX "idx_feedback_miner_time" ON "poolhub"."feedback" USING btree ("miner_id","created_at" DESC NULLS LAST);--> statement-breakpoint
CREATE INDEX "idx_feedback_unapplied" ON "poolhub"."feedback" USING btree ("id") WHERE not "poolhub"."feedback"."applied";