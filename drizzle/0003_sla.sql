CREATE TABLE "poolhub"."capacity_snapshots" (
	"at" timestamp (3) with time zone PRIMARY KEY NOT NULL,
	"miners" integer NOT NULL,
	"miners_online" integer NOT NULL,
	"places_total" integer NOT NULL,
	"places_online" integer NOT NULL,
	"places_used" integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_alerts" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "poolhub"."sla_alerts_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"type" text NOT NULL,
	"data" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"published" boolean DEFAULT false NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_collections" (
	"slot" timestamp (3) with time zone PRIMARY KEY NOT NULL,
	"started_at" timestamp (3) with time zone NOT NULL,
	"finished_at" timestamp (3) with time zone,
	"next_shard" integer DEFAULT 0 NOT NULL,
	"next_slot" integer DEFAULT 0 NOT NULL,
	"miners" bigint DEFAULT 0 NOT NULL,
	"online" bigint DEFAULT 0 NOT NULL,
	"places_online" bigint DEFAULT 0 NOT NULL,
	"places_used" bigint DEFAULT 0 NOT NULL,
	"violations_opened" bigint DEFAULT 0 NOT NULL,
	"violations_resolved" bigint DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_deliveries" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "poolhub"."sla_deliveries_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"alert_id" bigint NOT NULL,
	"webhook_id" bigint NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp (3) with time zone NOT NULL,
	"last_error" text,
	"failed_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_metrics" (
	"miner_id" text NOT NULL,
	"starts_at" timestamp (3) with time zone NOT NULL,
	"span_sec" integer NOT NULL,
	"collected_at" timestamp (3) with time zone NOT NULL,
	"online_ms" double precision DEFAULT 0 NOT NULL,
	"expected_ms" double precision DEFAULT 0 NOT NULL,
	"completed" bigint DEFAULT 0 NOT NULL,
	"failed" bigint DEFAULT 0 NOT NULL,
	"latency_sum_ms" double precision DEFAULT 0 NOT NULL,
	"latency_count" bigint DEFAULT 0 NOT NULL,
	"places_online" bigint DEFAULT 0 NOT NULL,
	"places_total" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "sla_metrics_miner_id_starts_at_span_sec_pk" PRIMARY KEY("miner_id","starts_at","span_sec")
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_miners" (
	"miner_id" text PRIMARY KEY NOT NULL,
	"collected_at" timestamp (3) with time zone NOT NULL,
	"previous_at" timestamp (3) with time zone,
	"live_at" timestamp (3) with time zone NOT NULL,
	"uptime_ms" double precision NOT NULL,
	"outage_ms" double precision NOT NULL,
	"feedback_seq" bigint NOT NULL,
	"places" integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_settings" (
	"id" integer PRIMARY KEY NOT NULL,
	"capacity_alert_pct" double precision NOT NULL
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_violations" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "poolhub"."sla_violations_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"miner_id" text NOT NULL,
	"violation_type" text NOT NULL,
	"severity" smallint NOT NULL,
	"metric_value" double precision NOT NULL,
	"threshold" double precision NOT NULL,
	"created_at" timestamp (3) with time zone NOT NULL,
	"resolved_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "poolhub"."sla_webhooks" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "poolhub"."sla_webhooks_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"url" text NOT NULL,
	"secret" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "sla_webhooks_url_unique" UNIQUE("url")
);
--> statement-breakpoint
ALTER TABLE "poolhub"."sla_deliveries" ADD CONSTRAINT "sla_deliveries_alert_id_sla_alerts_id_fk" FOREIGN KEY ("alert_id") REFERENCES "poolhub"."sla_alerts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "poolhub"."sla_deliveries" ADD CONSTRAINT "sla_deliveries_webhook_id_sla_webhooks_id_fk" FOREIGN KEY ("webhook_id") REFERENCES "poolhub"."sla_webhooks"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "idx_sla_alerts_unpublished" ON "poolhub"."sla_alerts" USING btree ("id") WHERE not "poolhub"."sla_alerts"."published";--> statement-breakpoint
CREATE INDEX "idx_sla_alerts_time" ON "poolhub"."sla_alerts" USING btree ("created_at");--> statement-breakpoint
CREATE UNIQUE INDEX "idx_sla_deliveries_once" ON "poolhub"."sla_deliveries" USING btree ("alert_id","webhook_id");--> statement-breakpoint
CREATE INDEX "idx_sla_deliveries_due" ON "poolhub"."sla_deliveries" USING btree ("next_at") WHERE "poolhub"."sla_deliveries"."failed_at" is null;--> statement-breakpoint
CREATE INDEX "idx_sla_deliveries_webhook" ON "poolhub"."sla_deliveries" USING btree ("webhook_id");--> statement-breakpoint
CREATE INDEX "idx_sla_metrics_time" ON "poolhub"."sla_metrics" USING btree ("starts_at","miner_id");--> statement-breakpoint
CREATE UNIQUE INDEX "idx_sla_violations_open" ON "poolhub"."sla_violations" USING btree ("miner_id","violation_type") WHERE "poolhub"."sla_violations"."resolved_at" is null;--> statement-breakpoint
CREATE INDEX "idx_sla_violations_miner" ON "poolhub"."sla_violations" USING btree ("miner_id","id");--> statement-breakpoint
CREATE INDEX "idx_sla_violations_resolved" ON "poolhub"."sla_violations" USING btree ("resolved_at");--> statement-breakpoint
ALTER TABLE "poolhub"."sla_metrics" SET (fillfactor = 75);--> statement-breakpoint
ALTER TABLE "poolhub"."sla_miners" SET (fillfactor = 75);
