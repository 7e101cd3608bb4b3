import type { ScriptReply, Scripts } from '../../platform/scripts.ts';
import type { Homes } from '../registry/homes.ts';
import { type CompiledRequest, compileRequest } from './compile.ts';
import { mergeFound } from './merge.ts';
import { priceBinTop } from './score.ts';
import type { ClauseCount, Explanation, Found, FoundSet, MatchInput } from './types.ts';

/** How old the highest price of the pool may be before a match reads it again. */
const PRICE_REFERENCE_TTL_MS = 3000;

export interface MatchStoreOptions {
  /** Names of the configured strategies, in the order in which the scripts know them. */
  strategies: readonly string[];
  /** Highest priced bin of the pool over all shards, -1 for none. */
  highestPriceBin: () => Promise<number>;
}

type CandidateReply = [ranking: string, recordText: string];

/** The lines of a record's text (lua/include/record.lua). */
type RecordLines = [
  minerId: string,
  addr: string,
  proto: string,
  price: string,
  etaMs: string,
  latencyNorm: string,
  trust: string,
  queueLen: string,
  reserved: string,
  maxParallel: string,
];

function foundOf([ranking, recordText]: CandidateReply, shard: number): Found {
  const lines = recordText.split('\n') as RecordLines;
  const [minerId, addr, proto, price, etaMs, latencyNorm, trust, queueLen, reserved] = lines;
  const [degraded, score, capFit, priceNorm, distance] = ranking.split(' ').map(Number) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const maxParallel = Number(lines[9]);
  const free = Math.max(0, maxParallel - Number(queueLen) - Number(reserved));
  return {
    minerId,
    shard,
    degraded: degraded === 1,
    score,
    capFit,
    priceNorm,
    latencyNorm: Number(latencyNorm),
    trust: Number(trust),
    loadNorm: free / (maxParallel + 1),
    turn: distance,
    addr,
    proto,
    price,
    etaMs: etaMs === '' ? null : Number(etaMs),
  };
}

/** Typed callers of the match scripts. All shards are asked at once; each answer is exact, and so is the merge. */
export class MatchStore {
  readonly strategies: readonly string[];
  readonly #scripts: Scripts;
  readonly #homes: Homes;
  readonly #highestPriceBin: () => Promise<number>;
  #reference: { value: Promise<number>; until: number } | undefined;

  constructor(scripts: Scripts, homes: Homes, options: MatchStoreOptions) {
    this.#scripts = scripts;
    this.#homes = homes;
    this.#highestPriceBin = options.highestPriceBin;
    this.strategies = options.strategies;
  }

  /** The best `k` miners for a request. `strategy` is a position in `strategies`. Throws what Redis throws. */
  async find(input: MatchInput, strategy: number, k: number): Promise<FoundSet> {
    const request = compileRequest(input, strategy, k, await this.#priceReference());
    const replies = await this.#homes.onAll('matching/match', [JSON.stringify(request)]);
    const shards = replies.map((reply, shard) => ({
      found: (reply[6] as CandidateReply[]).map((candidate) => foundOf(candidate, shard)),
      feasible: Number(reply[1]),
    }));
    return {
      candidates: seenOnce(mergeFound(input.job_id, shards)).slice(0, k),
      feasible: sum(replies, 1),
      truncated: sum(replies, 2) > 0,
      loose: sum(replies, 3) > 0,
      tied: sum(replies, 4) > 0,
      recordsRead: sum(replies, 5),
    };
  }

  /** Counts of the pool and per clause for a request. */
  async explain(input: MatchInput, strategy: number): Promise<Explanation> {
    const request = compileRequest(input, strategy, 1, await this.#priceReference());
    const replies = await this.#homes.onAll('matching/explain', [JSON.stringify(request), '']);
    const clauses = new Map<string, ClauseCount>();
    for (const reply of replies) {
      for (const [clause, have, dropped] of reply[7] as [string, number, number][]) {
        const known = clauses.get(clause) ?? { clause, have: 0, if_dropped: 0 };
        clauses.set(clause, { clause, have: known.have + have, if_dropped: known.if_dropped + dropped });
      }
    }
    return {
      registered: sum(replies, 1),
      online: sum(replies, 2),
      degraded: sum(replies, 3),
      available: sum(replies, 4),
      matchable: sum(replies, 5),
      feasible: sum(replies, 6),
      clauses: [...clauses.values()],
    };
  }

  /** Every clause that one miner fails; undefined when it is not in the registry. */
  async failedClauses(input: MatchInput, strategy: number, minerId: string): Promise<string[] | undefined> {
    const request: CompiledRequest = compileRequest(input, strategy, 1, await this.#priceReference());
    return this.#homes.find(minerId, async (_prefix, shard) => {
      const reply = await this.#scripts.run('matching/explain', shard, [JSON.stringify(request), minerId]);
      return (reply[8] as string[] | null) ?? undefined;
    });
  }

  /** Upper edge of the pool's highest priced bin, the same for all shards; at most a few seconds old. */
  #priceReference(): Promise<number> {
    const now = performance.now();
    if (this.#reference === undefined || this.#reference.until < now) {
      const value = this.#highestPriceBin().then(priceBinTop);
      this.#reference = { value, until: now + PRICE_REFERENCE_TTL_MS };
      // A failed read is the asker's error; the next one asks again.
      value.catch(() => {
        this.#reference = undefined;
      });
    }
    return this.#reference.value;
  }
}

/** A miner that moved between the looks at two shards was found in both. */
function seenOnce(candidates: readonly Found[]): Found[] {
  const seen = new Set<string>();
  return candidates.filter(({ minerId }) => !seen.has(minerId) && seen.add(minerId));
}

function sum(replies: readonly ScriptReply[], field: number): number {
  return replies.reduce((total, reply) => total + Number(reply[field]), 0);
}
