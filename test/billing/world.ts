/** Miners of known tenants whose feedback is used and billed. */
import { asc, eq } from 'drizzle-orm';
import { usageRecords } from '../../src/hub/billing/tables.ts';
import type { HubDeps } from '../../src/hub/deps.ts';
import { miners } from '../../src/hub/miners/tables.ts';
import { type FeedbackInput, recordFeedback } from '../../src/hub/trust/feedback.ts';
import { registerMiner, uniqueId } from '../durable/fleet.ts';

/** A miner whose profile is in Postgres. */
export async function billedMiner(
  hub: HubDeps,
  profile: { tenantId: string | null; gpuCount: number },
): Promise<string> {
  const id = await registerMiner(hub);
  await storeProfile(hub, id, profile);
  return id;
}

/** What the drain of the journal does with a profile, as far as billing looks at it. */
export async function storeProfile(
  hub: HubDeps,
  minerId: string,
  { tenantId, gpuCount }: { tenantId: string | null; gpuCount: number },
): Promise<void> {
  await hub.db.run((orm) =>
    orm
      .update(miners)
      .set({ addr: '10.0.0.1:9000', tenantId, gpuCount, profileVersion: Date.now() })
      .where(eq(miners.minerId, minerId)),
  );
}

export function report(
  minerId: string,
  outcome: FeedbackInput['outcome'],
  more: Partial<FeedbackInput> = {},
): FeedbackInput {
  return {
    jobId: uniqueId('job'),
    minerId,
    outcome,
    latencyMs: null,
    failCode: null,
    tokensSpent: null,
    reservationId: null,
    ...more,
  };
}

export async function feedback(hub: HubDeps, ...input: Parameters<typeof report>): Promise<FeedbackInput> {
  const given = report(...input);
  const result = await recordFeedback(hub, given);
  if (result.status !== 'ok') throw new Error(`feedback: ${result.status}`);
  return given;
}

export function recordsOf(hub: HubDeps, minerId: string) {
  return hub.db.run((orm) =>
    orm
      .select()
      .from(usageRecords)
      .where(eq(usageRecords.minerId, minerId))
      .orderBy(asc(usageRecords.usedAt), asc(usageRecords.resourceType)),
  );
}

/** A decimal as hundred-millionths. */
export function unitsOf(text: string): bigint {
  const [whole = '0', fraction = ''] = text.split('.');
  return BigInt(whole + fraction.padEnd(8, '0'));
}
