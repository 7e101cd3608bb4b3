import type { Program } from '../../src/embedded/supervise.ts';
import { startHubProcess } from '../hub/hub-process.ts';
import type { Options } from '../support/benchmark.ts';
import { type BenchRegistry, benchSettings, openRegistry } from '../support/registry.ts';
import { benchDatabase, benchRedis } from '../support/stores.ts';
import type { Undo } from '../support/undo.ts';
import { type Generator, startGenerator } from './generator.ts';
import { STATE_ARGUMENTS } from './hub-state.ts';

/** Kept free for those that take over a socket of their own. */
const SPARE_SOCKETS = 100;

/** A hub in a process of its own, and the miners that will connect to it. */
export interface SocketHub {
  readonly url: string;
  readonly coordinatorSecret: string;
  readonly program: Program;
  /** Its registry, seen from this process. */
  readonly registry: BenchRegistry;
  readonly generator: Generator;
}

/** Starts the hub with leases and heartbeat intervals as they are by default, and the processes of the miners. */
export async function startSocketHub(options: Options, undo: Undo): Promise<SocketHub> {
  const redis = await benchRedis(undo);
  const given = benchSettings(redis, await benchDatabase(undo, { migrated: true }));
  const { HEARTBEAT_GRACE_SEC, ...settings } = given;
  const ownSettings = {
    ...settings,
    SESSION_TTL_SEC: String(options.lease),
    MINER_ENROLLMENT: 'open',
    WS_MAX_SOCKETS: String(options.miners + SPARE_SOCKETS),
  };
  const registry = await openRegistry(ownSettings, undo);
  const { url, program } = await startHubProcess(ownSettings, undo, STATE_ARGUMENTS);
  const { miners: to, seed, fleet: kind } = options;
  const generator = startGenerator({ url, from: 0, to, seed, kind }, undo);
  return {
    url,
    coordinatorSecret: given.COORDINATOR_SHARED_SECRET as string,
    program,
    registry,
    generator,
  };
}
