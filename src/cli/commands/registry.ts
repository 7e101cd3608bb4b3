import * as v from 'valibot';
import type { HubDeps } from '../../hub/deps.ts';
import { MinerId } from '../../hub/miners/schema.ts';
import { termsOf } from '../../hub/registry/expected.ts';
import { rebuildRegistry } from '../../hub/registry/rebuild.ts';
import { registryOf } from '../../hub/registry/strategies.ts';
import { verifyRegistry } from '../../hub/registry/verify.ts';
import { defineCommand } from '../command.ts';
import { CommandError, UsageError } from '../errors.ts';
import { withStores } from '../stores.ts';
import { formatTable } from '../table.ts';

const json = { type: 'boolean', help: 'print JSON' } as const;
const SETTINGS_NOTE = 'Works on Redis itself, with the settings of the hub.';

/** Fields that prove who a miner is: digests, but nobody needs to see them. */
const HIDDEN_FIELDS: ReadonlySet<string> = new Set(['key_digest', 'session']);

const SHOWN_DIFFERENCES = 100;

export const registryVerify = defineCommand({
  name: 'registry verify',
  summary:
    'Derives all that the registry keeps from the hashes of the miners and reports differences (exit code 1).',
  options: { json },
  notes: `Safe beside a registry at work: what has just changed is read again. ${SETTINGS_NOTE}`,
  async run({ values }, terminal) {
    const report = await withStores(terminal, async (deps) =>
      verifyRegistry(await registryOf(deps), SHOWN_DIFFERENCES),
    );
    const found = sum(report.counts);
    if (values.json) {
      terminal.out(JSON.stringify(report));
    } else if (found === 0) {
      terminal.out(`${report.miners} miners: the registry is right.`);
    } else {
      const rows = report.differences.map(({ kind, shard, subject, detail }) => [
        kind,
        shard,
        subject,
        detail,
      ]);
      terminal.out(formatTable(['DIFFERENCE', 'SHARD', 'OF', 'DETAIL'], rows));
      terminal.out(`${report.miners} miners, ${found} differences: ${countsText(report.counts)}`);
    }
    return found === 0 ? 0 : 1;
  },
});

export const registryRebuild = defineCommand({
  name: 'registry rebuild',
  summary: 'Mends all that `registry verify` reports, in small steps, while the hub serves.',
  options: { json },
  notes: `The worker runs it by itself after a change of DEFAULT_WEIGHTS or STRATEGIES. ${SETTINGS_NOTE}`,
  async run({ values }, terminal) {
    const report = await withStores(terminal, async (deps) => rebuildRegistry(await registryOf(deps)));
    const mended = countsText(report.mended) || 'nothing';
    terminal.out(
      values.json
        ? JSON.stringify(report)
        : `${report.miners} miners; mended: ${mended}; differences left: ${report.left}`,
    );
    return report.left === 0 ? 0 : 1;
  },
});

export const registryShow = defineCommand({
  name: 'registry show',
  summary: 'Shows a miner as Redis holds it: its hash, and the index terms that matching finds it by.',
  positionals: ['miner_id'],
  options: { json },
  notes: SETTINGS_NOTE,
  async run({ values, positionals }, terminal) {
    const parsed = v.safeParse(MinerId, positionals[0]);
    if (!parsed.success) throw new UsageError(`<miner_id> ${parsed.issues[0].message}`);
    const miner_id = parsed.output;
    const shown = await withStores(terminal, (deps) => lookAt(deps, miner_id));
    if (shown === undefined) throw new CommandError(`${miner_id} is not in the registry`);
    if (values.json) terminal.out(JSON.stringify({ miner_id, ...shown }));
    else terminal.out(showText(shown));
    return 0;
  },
});

interface Shown {
  readonly shard: number;
  readonly hash: Readonly<Record<string, string>>;
  /** Terms that the miner should have, and whether its bit is set. */
  readonly terms: ReadonlyArray<{ term: string; set: boolean }>;
}

async function lookAt(deps: HubDeps, minerId: string): Promise<Shown | undefined> {
  const { store, strategies } = await registryOf(deps);
  const hash = await deps.miners.get(minerId);
  if (hash === undefined) return undefined;
  // Reading the miner has brought it home.
  const shard = deps.homes.homeOf(minerId);
  const terms = [...termsOf(hash, strategies)].sort();
  const [probed] = await store.probe(shard, [{ minerId, slot: hash.slot ?? '', terms }]);
  const fields = Object.entries(hash).filter(([field]) => !HIDDEN_FIELDS.has(field));
  return {
    shard,
    hash: Object.fromEntries(fields.sort(([a], [b]) => (a < b ? -1 : 1))),
    terms: terms.map((term, n) => ({ term, set: probed?.bits[n] === '1' })),
  };
}

function showText({ shard, hash, terms }: Shown): string {
  const lost = terms.filter(({ set }) => !set).map(({ term }) => term);
  return [
    formatTable(['FIELD', 'VALUE'], [['(shard)', String(shard)], ...Object.entries(hash)]),
    '',
    `TERMS  ${terms
      .filter(({ set }) => set)
      .map(({ term }) => term)
      .join('  ')}`,
    ...(lost.length === 0 ? [] : [`LOST   ${lost.join('  ')}`]),
  ].join('\n');
}

function countsText(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([kind, count]) => `${kind} ${count}`)
    .join(', ');
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}
