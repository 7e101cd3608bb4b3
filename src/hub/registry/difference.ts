import type { Strategy } from './expected.ts';
import type { EntryKind, RegistryStore } from './store.ts';

/** A live registry, and the settings that its scripts are compiled with. */
export interface Registry {
  readonly store: RegistryStore;
  readonly shards: number;
  /** In the order of the scripts' constants. */
  readonly strategies: readonly Strategy[];
  readonly graceMs: number;
}

export type DifferenceKind =
  /** A miner's term without its bit. */
  | 'lost bit'
  /** A bit that no miner stands for. */
  | 'stray bit'
  /** The count of a term is not the number of its bits. */
  | 'wrong count'
  | 'wrong record'
  /** A field of the hash does not follow from the others. */
  | 'wrong field'
  /** An entry of prices, etas, leases or overrides is missing or other than the hash says. */
  | 'wrong entry'
  | 'stale lease'
  /** Something is kept for a miner that is gone. */
  | 'stray entry'
  /** A slot neither taken nor free, taken twice, free twice, or past the counter. */
  | 'orphan slot'
  | 'shared slot'
  | 'uncounted slot'
  | 'wrong histogram'
  | 'wrong total'
  /** Reserved places and the reservations that hold them do not agree. */
  | 'wrong reservation';

/** What mends a difference: the script, and what it needs to know. */
export type Mend =
  | { by: 'reindex'; minerId: string }
  | { by: 'clear'; term: string; slot: number }
  | { by: 'recount'; term: string }
  | { by: 'slots'; slot: number }
  | { by: 'entries'; kind: EntryKind; member: string }
  | { by: 'adjust'; hash: string; field: string; amount: number }
  | { by: 'reservations'; minerId: string; seen: number; ids: readonly string[] };

/** One thing that is stored otherwise than the hashes of the miners say. */
export interface Difference {
  readonly kind: DifferenceKind;
  readonly shard: number;
  /** The miner, term, slot or key that it is about. */
  readonly subject: string;
  readonly detail: string;
  readonly mend: Mend;
}
