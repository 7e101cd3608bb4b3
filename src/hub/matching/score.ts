import type { ClauseCount, Explanation, Found } from './types.ts';

/** Ratio of the logarithmic price bins (lua/include/terms.lua). */
const BIN_RATIO = 1.25;
const PRICE_UNIT = 1e-6;

/** Upper edge of a price bin, tokens per 1,000 s; 0 for no bin (-1). The reference of price_norm without max_price. */
export function priceBinTop(bin: number): number {
  return bin < 0 ? 0 : PRICE_UNIT * BIN_RATIO ** bin;
}

/** Best first: online before degraded, then score, then whose turn it is, then id. */
export function compareFound(a: Found, b: Found): number {
  return (
    Number(a.degraded) - Number(b.degraded) ||
    b.score - a.score ||
    a.turn - b.turn ||
    (a.minerId < b.minerId ? -1 : 1)
  );
}

function share(value: number): string {
  const short = String(Math.round(value * 100) / 100);
  return short.includes('.') ? short : `${short}.0`;
}

/** The parts of a score, each in [0, 1] and rounded to two decimals: `cap=1.0 • price=0.8 • latency=0.9 • trust=0.7 • load=0.5`. */
export function explainParts(found: Found): string {
  const parts = [
    `cap=${share(found.capFit)}`,
    `price=${share(found.priceNorm)}`,
    `latency=${share(found.latencyNorm)}`,
    `trust=${share(found.trust)}`,
    `load=${share(found.loadNorm)}`,
  ];
  return `${parts.join(' • ')}${found.degraded ? ' • degraded: lease over, score halved' : ''}`;
}

const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** One line on why nothing matched: the clauses that nobody satisfies, and what dropping one alone would give. */
export function explainNone(explanation: Explanation): string {
  const { registered, available, feasible, clauses } = explanation;
  if (registered === 0) return '0 of 0: no miner is registered';
  if (available === 0) {
    return `0 of ${registered}: none of the registered miners is available (busy, full or draining)`;
  }
  // Counted after the match: leases that had just ended were not stepped then; or counted with some above a limit (docs/adr/0004).
  if (feasible > 0) {
    return `0 of ${plural(available, 'available miner')}: ${feasible} may match when asked again, for they have just changed or are near a limit`;
  }
  const nobody = clauses.filter((clause) => clause.have === 0).map((clause) => clause.clause);
  const each = clauses.map((clause) => `${clause.clause} leaves ${clause.have}`).join(', ');
  const why =
    nobody.length > 0 ? `no miner satisfies ${nobody.join(' or ')}` : `alone, ${each}, but together none`;
  const gains = clauses
    .filter((clause) => clause.if_dropped > 0)
    .sort(byGain)
    .map((clause) => `dropping ${clause.clause} gives ${clause.if_dropped}`);
  const way = gains.length > 0 ? gains.join(', ') : 'no single clause can be dropped to give any';
  return `0 of ${plural(available, 'available miner')}: ${why}; ${way}`;
}

function byGain(a: ClauseCount, b: ClauseCount): number {
  return b.if_dropped - a.if_dropped;
}
