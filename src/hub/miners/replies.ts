import type { ScriptReply } from '../../platform/scripts.ts';
import type { Beat, BeatResult, Credential, DurableState, Lease, PendingCommand } from './types.ts';

/** A value as script arguments take it: '' for absent, '0' or '1' for a flag. */
export const text = (value: number | boolean | undefined): string =>
  value === undefined ? '' : typeof value === 'boolean' ? (value ? '1' : '0') : String(value);

/** One heartbeat as its script takes it: a part of the arguments of one call. */
export type BeatArguments = readonly (string | number)[];

export function beatArguments(
  minerId: string,
  { kind, digest }: Credential,
  beat: Beat,
  ack: readonly string[],
): BeatArguments {
  return [
    minerId,
    kind,
    digest,
    text(beat.queue_len),
    text(beat.busy),
    text(beat.avg_latency_ms),
    text(beat.current_jobs),
    text(beat.temp_c),
    text(beat.mem_free_gb),
    ack.length,
    ...ack,
  ];
}

/** Lease fields of a reply, all ms. */
export function leaseOf(fields: unknown[]): Lease {
  const [nowMs, leaseUntilMs, sessionUntilMs, nextHeartbeatMs] = fields.map(Number) as [
    number,
    number,
    number,
    number,
  ];
  return { nowMs, leaseUntilMs, sessionUntilMs, nextHeartbeatMs };
}

function commandsOf(entries: unknown): PendingCommand[] {
  return (entries as [string, string, string][]).map(([id, name, args]) => ({
    id,
    name,
    args: JSON.parse(args),
  }));
}

/** What Postgres remembers of a miner, as register.lua reads it. */
export function durableJson(durable: DurableState): string {
  return JSON.stringify({
    alpha: String(durable.alpha),
    beta: String(durable.beta),
    trust: String(durable.alpha / (durable.alpha + durable.beta)),
    trust_seq: String(durable.trustSeq),
    observed_latency_ms: String(durable.observedLatencyMs),
    observed_samples: String(durable.observedSamples),
    price_override: durable.priceOverride,
    price_override_until_ms: String(durable.priceOverrideUntilMs),
  });
}

/** A heartbeat's reply. Status words are the scripts' to choose; one that is not known here is a defect, not an outcome. */
export function beatResult(reply: ScriptReply): BeatResult {
  if (reply[0] === 'session_unknown') return { status: 'session_unknown' };
  if (reply[0] !== 'ok') throw new Error(`unexpected status ${reply[0]}`);
  return { status: 'ok', ...leaseOf(reply[1] as unknown[]), commands: commandsOf(reply[2]) };
}
