import * as v from 'valibot';
import { keys } from '../../platform/keys.ts';
import type { RedisClient } from '../../platform/redis.ts';
import { type MinerEntry, parseMinerEntry, type SavedProfile, saveMinerEntries } from '../miners/journal.ts';
import { checkOverride, type HeldOverride, readOverrides } from '../miners/overrides.ts';
import type { MinerStore } from '../miners/store.ts';
import { applyTrust, commitJournaled, type FeedbackDeps, journaledFeedback } from '../trust/feedback.ts';
import { readTrust } from '../trust/store.ts';
import type { JournalSink } from './drain.ts';

export interface SinkDeps extends FeedbackDeps {
  readonly redis: RedisClient;
  readonly miners: MinerStore;
}

type FeedbackEntry = v.InferOutput<typeof journaledFeedback>;

/** Feedback of different miners is committed side by side, as far as the pool goes. */
const PARALLEL_MINERS = 4;

/** The row of each miner: profiles, changes, and when it left. */
export function minerSink(deps: SinkDeps): JournalSink<MinerEntry> {
  return {
    types: ['profile', 'profile_change', 'removed'],
    parse: parseMinerEntry,
    async write(entries) {
      const saved = await deps.db.run((orm) => saveMinerEntries(orm, entries));
      await reconcile(deps, saved.profiles);
      return entries.filter((entry) => saved.unknown.has(entry.minerId));
    },
  };
}

/** Feedback that was taken while Postgres was away. */
export function feedbackSink(deps: SinkDeps): JournalSink<FeedbackEntry> {
  return {
    types: ['feedback'],
    parse: (entry) => v.parse(journaledFeedback, JSON.parse(entry.data)),
    async write(entries) {
      const perMiner = new Map<string, FeedbackEntry[]>();
      for (const entry of entries) {
        perMiner.set(entry.miner_id, [...(perMiner.get(entry.miner_id) ?? []), entry]);
      }
      const queues = [...perMiner.values()];
      const unknown: FeedbackEntry[] = [];
      const takeTurns = async () => {
        for (let queue = queues.pop(); queue !== undefined; queue = queues.pop()) {
          for (const entry of queue) if (!(await commitJournaled(deps, entry))) unknown.push(entry);
        }
      };
      await Promise.all(Array.from({ length: PARALLEL_MINERS }, takeTurns));
      return unknown;
    },
  };
}

/**
 * Between the moment Postgres vouched for a registration and the moment the registry had it, a feedback may
 * have moved trust, or an administrator may have taken the key away or changed the price override. A new
 * profile in the journal is the sign to look once more.
 */
async function reconcile(deps: SinkDeps, profiles: readonly SavedProfile[]): Promise<void> {
  if (profiles.length === 0) return;
  const ids = profiles.map((profile) => profile.minerId);
  const trust = await deps.db.run((orm) => readTrust(orm, ids));
  await Promise.all(trust.map((snapshot) => applyTrust(deps, snapshot)));
  const overrides = await readOverrides(deps.db, ids);
  await Promise.all(
    profiles.map(async (profile) => {
      const held = await heldBy(deps, profile.minerId);
      if (held === undefined) return;
      await checkKey(deps, profile, held.keyDigest);
      await checkOverride(deps, profile.minerId, held, overrides.get(profile.minerId));
    }),
  );
}

/** What the registry holds of a miner's key and price override; '' for what it does not hold. */
interface Held extends HeldOverride {
  readonly keyDigest: string;
}

function heldBy(deps: SinkDeps, minerId: string): Promise<Held | undefined> {
  return deps.homes.find(minerId, async (shard) => {
    const fields = ['slot', 'key_digest', 'price_override', 'price_override_until_ms'] as const;
    const [slot, keyDigest, price, untilMs] = await deps.redis.hmget(keys.miner(shard, minerId), ...fields);
    if (slot === null) return undefined;
    return { keyDigest: keyDigest ?? '', price: price ?? '', untilMs: untilMs ?? '' };
  });
}

async function checkKey(deps: SinkDeps, { minerId, apiKeyHash }: SavedProfile, held: string): Promise<void> {
  if (held === '' || held === apiKeyHash) return;
  if (apiKeyHash === null) await deps.miners.remove(minerId, 'key_revoked');
  else await deps.miners.forgetKey(minerId);
}
