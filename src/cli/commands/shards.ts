import { rebalance } from '../../hub/registry/rebalance.ts';
import { defineCommand } from '../command.ts';
import { CommandError, UsageError } from '../errors.ts';
import { numberOption, wholeOption } from '../numbers.ts';
import { Progress } from '../progress.ts';
import { MEASURED, MEASURED_AT, planShards } from '../shards-plan.ts';
import { withStores } from '../stores.ts';
import { formatTable } from '../table.ts';

const GIB = 1024 ** 3;
const BEATS_PER_LEASE = 3;

const text = (value: string, help: string, fallback: number) =>
  ({ type: 'string', value, help, default: String(fallback) }) as const;

export const shardsPlan = defineCommand({
  name: 'shards plan',
  summary:
    'How many shards, Redis masters and hubs a pool of some size needs, and what each master does then.',
  options: {
    miners: { type: 'string', value: 'n', help: 'miners online at the same time', default: '100000' },
    'matches-per-sec': text('n', 'matches a second', 100),
    'lease-sec': text('n', 'SESSION_TTL_SEC', 60),
    'target-per-sec': text('n', 'HEARTBEAT_TARGET_PER_SEC', 5000),
    'max-memory-gb': text('n', 'memory that one Redis server may use', 16),
    'bytes-per-miner': text('n', 'measured: bytes_per_miner', MEASURED.bytesPerMiner),
    'heartbeat-us': text('n', 'measured: heartbeat_us', MEASURED.heartbeatUs),
    'match-us': text('n', `measured at ${MEASURED_AT} miners: typical_us`, MEASURED.matchUs),
    exponent: text('n', 'measured: exponent of bench scale', MEASURED.matchExponent),
    json: { type: 'boolean', help: 'print JSON' },
  },
  notes: `What is measured comes from \`npm run bench -- match --miners ${MEASURED_AT}\` and \`-- scale\` on your own servers; the defaults were measured on a small shared machine.`,
  async run({ values }, terminal) {
    const miners = wholeOption('miners', values.miners, { min: 1, max: 100_000_000 });
    const leaseSec = wholeOption('lease-sec', values['lease-sec'], { min: 1, max: 86_400 });
    const targetPerSec = wholeOption('target-per-sec', values['target-per-sec'], { min: 1, max: 10_000_000 });
    const demand = {
      miners,
      matchesPerSec: numberOption('matches-per-sec', values['matches-per-sec'], { min: 0, max: 1_000_000 }),
      // Intervals stretch when the fleet would beat more than the target.
      heartbeatsPerSec: Math.min(targetPerSec, (miners * BEATS_PER_LEASE) / leaseSec),
      maxMemoryBytes: numberOption('max-memory-gb', values['max-memory-gb'], { min: 0.1, max: 10_000 }) * GIB,
    };
    const cost = (name: 'bytes-per-miner' | 'heartbeat-us' | 'match-us') =>
      numberOption(name, values[name], { min: 0.1, max: 1_000_000 });
    const costs = {
      bytesPerMiner: cost('bytes-per-miner'),
      heartbeatUs: cost('heartbeat-us'),
      matchUs: cost('match-us'),
      matchExponent: numberOption('exponent', values.exponent, { min: 0, max: 2 }),
    };
    const plan = planned(() => planShards(demand, costs));
    if (values.json) {
      terminal.out(JSON.stringify({ ...demand, ...plan }));
      return;
    }
    const rows: [string, string][] = [
      ['REDIS_SHARDS', String(plan.shards)],
      ['Redis masters', plan.masters === 1 ? '1 (a single server)' : `${plan.masters} (a cluster)`],
      ['Redis replicas', String(plan.redisReplicas)],
      ['hubs', String(plan.hubs)],
      ['miners of a shard', String(plan.minersPerShard)],
      ['memory of a master', `${(plan.memoryBytesPerMaster / GIB).toFixed(2)} GiB`],
      ['script calls of a master', `${plan.callsPerSecPerMaster} a second`],
      ['load of a master', `${(plan.loadPerMaster * 100).toFixed(0)}% of a core`],
    ];
    terminal.out(
      formatTable(['PLAN', `${miners} miners, ${Math.ceil(demand.heartbeatsPerSec)} heartbeats/s`], rows),
    );
  },
});

const MAX_SHARDS = 1024;

export const shardsRebalance = defineCommand({
  name: 'shards rebalance',
  summary:
    'Changes the number of shards while the pool serves: moves each miner, with all that belongs to it.',
  options: {
    shards: { type: 'string', value: 'n', help: 'how many there shall be' },
    rate: text('n', 'moved a second, at most', 1_000),
    parallel: text('n', 'on their way at once: so many are unseen for about a millisecond', 8),
    'journal-timeout-sec': text(
      's',
      'wait so long for the worker to empty the journals of shards that go',
      60,
    ),
    json: { type: 'boolean', help: 'print JSON' },
  },
  notes: `Ctrl-C stops it between two moves; the pool serves on. The same command goes on where it was, also after a crash; with the number
that it came from, it goes back. Needs a worker when there are to be fewer. Works on Redis itself, with the settings of the hub.`,
  async run({ values }, terminal) {
    if (values.shards === undefined) throw new UsageError('needs --shards');
    const shards = wholeOption('shards', values.shards, { min: 1, max: MAX_SHARDS });
    const perSecond = wholeOption('rate', values.rate, { min: 1, max: 100_000 });
    const parallel = wholeOption('parallel', values.parallel, { min: 1, max: 256 });
    const timeout = wholeOption('journal-timeout-sec', values['journal-timeout-sec'], {
      min: 0,
      max: 86_400,
    });
    const signal = terminal.stopSignal();
    let count = 0;
    const line = () => `${count} moved to their place among ${shards} shards`;
    const progress = new Progress(process.stderr, { line, screen: () => [line()] });
    const moved = () => {
      count += 1;
    };
    const begun = (from: number, to: number) => terminal.note(`moving from ${from} to ${to} shards`);
    const options = { shards, perSecond, parallel, journalTimeoutMs: timeout * 1000, signal, begun, moved };
    const report = await withStores(terminal, (deps) => rebalance(deps, options)).finally(() =>
      progress.stop(),
    );
    if (values.json) terminal.out(JSON.stringify(report));
    else if (!report.done) terminal.out(`Stopped after ${report.moved}; the same command goes on.`);
    else if (report.from === report.to) terminal.out(`There are ${report.to} shards already.`);
    else terminal.out(`${report.from} shards are ${report.to} now; ${report.moved} moved.`);
    return report.done ? 0 : 1;
  },
});

/** @throws CommandError for what no cluster carries */
function planned<T>(plan: () => T): T {
  try {
    return plan();
  } catch (error) {
    if (error instanceof RangeError) throw new CommandError(error.message, { cause: error });
    throw error;
  }
}
