import { isDataError } from '../../platform/db-errors.ts';
import { keys, shardPrefix } from '../../platform/keys.ts';
import type { Logger } from '../../platform/logger.ts';
import type { Metrics } from '../../platform/metrics.ts';
import type { RedisClient } from '../../platform/redis.ts';

/** An entry as it stands in the stream. */
export interface JournalEntry {
  /** Stream id. */
  readonly id: string;
  readonly type: string;
  /** Milliseconds by the clock of Redis, ahead of it after it stepped back; orders the profiles of a miner. Null where the type has none. */
  readonly version: number | null;
  /** JSON. */
  readonly data: string;
}

/** Where the entries of some types go. */
export interface JournalSink<Item = unknown> {
  readonly types: readonly string[];
  /** Throws when the entry is malformed. */
  parse(entry: JournalEntry): Item;
  /**
   * Commits the items in their order. Called again with the same items after a crash or a failure, so it must
   * be idempotent.
   * @returns the items that can never be written, such as those of a miner that does not exist
   */
  write(items: readonly Item[]): Promise<readonly Item[]>;
}

export interface DrainDeps {
  readonly redis: RedisClient;
  readonly prefix: string;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, 'journalWritten' | 'journalDead'>;
}

export interface DrainResult {
  readonly written: number;
  readonly dead: number;
}

const GROUP = 'worker';

/**
 * One name for all workers: the group remembers what was delivered and not acknowledged, and whoever drains
 * next takes that first, whoever it was delivered to. A name for each would leave the entries of a dead
 * worker waiting for somebody to claim them.
 */
const CONSUMER = 'worker';

const DEAD_LETTERS_MAX = 10_000;

/**
 * Moves the journal of one shard to its sinks: first what an earlier drain left unacknowledged, then what is
 * new, in the order of the stream. An entry is acknowledged and deleted only after its commit. What can never
 * be written is put aside in `journal:dead` and does not hold up the rest. Meant for one drain of a shard at
 * a time; a second one at once repeats work, and writes nothing twice.
 * @param batch entries per transaction
 * @param budgetMs no new batch is begun after this long
 * @throws what Redis or Postgres throws; nothing is lost, the next drain goes on from there
 */
export async function drainShard(
  deps: DrainDeps,
  sinks: readonly JournalSink[],
  shard: number,
  batch: number,
  budgetMs: number,
): Promise<DrainResult> {
  const prefix = shardPrefix(deps.prefix, shard);
  const deadline = performance.now() + budgetMs;
  let written = 0;
  let dead = 0;
  for (const from of ['0', '>']) {
    while (performance.now() < deadline) {
      const entries = await readBatch(deps.redis, keys.journal(prefix), from, batch);
      if (entries.length === 0) break;
      const rejected = await writeBatch(sinks, entries);
      await settle(deps, prefix, entries, rejected);
      written += entries.length - rejected.size;
      dead += rejected.size;
    }
  }
  return { written, dead };
}

/** `from` '0' reads what was delivered before and not acknowledged, '>' what never was. */
async function readBatch(
  redis: RedisClient,
  stream: string,
  from: string,
  count: number,
): Promise<JournalEntry[]> {
  const read = () => redis.xreadgroup('GROUP', GROUP, CONSUMER, 'COUNT', count, 'STREAMS', stream, from);
  const reply = await read().catch(async (error: unknown) => {
    // The first drain of a stream, or of one that Redis has lost, or that went with its shard: that one must not be made again.
    if (!(error instanceof Error) || !error.message.startsWith('NOGROUP')) throw error;
    if ((await redis.exists(stream)) === 0) return null;
    await createGroup(redis, stream);
    return read();
  });
  const streams = (reply ?? []) as [string, [string, string[] | null][]][];
  return (streams[0]?.[1] ?? []).map(([id, fields]) => entryOf(id, fields ?? []));
}

async function createGroup(redis: RedisClient, stream: string): Promise<void> {
  try {
    await redis.xgroup('CREATE', stream, GROUP, '0');
  } catch (error) {
    // Another worker was first.
    if (!(error instanceof Error) || !error.message.startsWith('BUSYGROUP')) throw error;
  }
}

/**
 * An entry that was deleted while it was pending has no fields: it becomes one without a type, which no sink
 * takes.
 */
function entryOf(id: string, fields: readonly string[]): JournalEntry {
  const named = new Map<string, string>();
  for (let i = 0; i + 1 < fields.length; i += 2) named.set(fields[i] as string, fields[i + 1] as string);
  const version = named.get('version');
  return {
    id,
    type: named.get('type') ?? '',
    version: version === undefined ? null : Number(version),
    data: named.get('data') ?? '',
  };
}

/** Why an entry can never be written, by entry. */
type Rejected = Map<JournalEntry, string>;

async function writeBatch(
  sinks: readonly JournalSink[],
  entries: readonly JournalEntry[],
): Promise<Rejected> {
  const rejected: Rejected = new Map();
  for (const entry of entries) {
    if (!sinks.some((sink) => sink.types.includes(entry.type))) rejected.set(entry, 'unknown type');
  }
  for (const sink of sinks) {
    const items = new Map<unknown, JournalEntry>();
    for (const entry of entries) {
      if (!sink.types.includes(entry.type)) continue;
      try {
        items.set(sink.parse(entry), entry);
      } catch (error) {
        rejected.set(entry, `malformed: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    await writeItems(sink, [...items.keys()], items, rejected);
  }
  return rejected;
}

/** Writes all items at once; when Postgres refuses the data of one, halves find out which. */
async function writeItems(
  sink: JournalSink,
  items: readonly unknown[],
  entryOfItem: ReadonlyMap<unknown, JournalEntry>,
  rejected: Rejected,
): Promise<void> {
  if (items.length === 0) return;
  try {
    for (const item of await sink.write(items)) {
      rejected.set(entryOfItem.get(item) as JournalEntry, 'nothing to write it to');
    }
  } catch (error) {
    if (!isDataError(error)) throw error;
    if (items.length === 1) {
      rejected.set(entryOfItem.get(items[0]) as JournalEntry, `refused: ${rootMessage(error)}`);
      return;
    }
    const middle = Math.ceil(items.length / 2);
    await writeItems(sink, items.slice(0, middle), entryOfItem, rejected);
    await writeItems(sink, items.slice(middle), entryOfItem, rejected);
  }
}

/** What Postgres said; the message around it repeats the whole statement with its values. */
function rootMessage(error: unknown): string {
  let current = error;
  while (current instanceof Error && current.cause instanceof Error) current = current.cause;
  return current instanceof Error ? current.message : String(current);
}

/**
 * Puts the rejected aside, then acknowledges and deletes all: in one transaction, so that none is dropped in
 * between.
 */
async function settle(
  deps: DrainDeps,
  prefix: string,
  entries: readonly JournalEntry[],
  rejected: Rejected,
): Promise<void> {
  const stream = keys.journal(prefix);
  const ids = entries.map((entry) => entry.id);
  const transaction = deps.redis.multi();
  for (const [entry, why] of rejected) {
    const fields = ['id', entry.id, 'type', entry.type, 'data', entry.data, 'why', why];
    transaction.xadd(keys.journalDead(prefix), 'MAXLEN', '~', DEAD_LETTERS_MAX, '*', ...fields);
  }
  transaction.xack(stream, GROUP, ...ids).xdel(stream, ...ids);
  for (const [error] of (await transaction.exec()) ?? []) if (error) throw error;
  for (const entry of entries) {
    const why = rejected.get(entry);
    const type = entry.type === '' ? 'none' : entry.type;
    if (why === undefined) deps.metrics.journalWritten.inc({ type });
    else {
      deps.metrics.journalDead.inc({ type: why === 'unknown type' ? 'unknown' : type });
      deps.log.error({ stream, entry_id: entry.id, type, why }, 'journal entry put aside');
    }
  }
}
