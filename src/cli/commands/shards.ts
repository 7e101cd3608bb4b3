import { defineCommand } from '../command.ts';
import { CommandError } from '../errors.ts';
import { numberOption, wholeOption } from '../numbers.ts';
import { MEASURED, MEASURED_AT, planShards } from '../shards-plan.ts';
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

/** @throws CommandError for what no cluster carries */
function planned<T>(plan: () => T): T {
  try {
    return plan();
  } catch (error) {
    if (error instanceof RangeError) throw new CommandError(error.message, { cause: error });
    throw error;
  }
}
