import { onFreePort } from '../../src/embedded/ports.ts';
import { type Program, startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../../test/support/entry.ts';
import { readPool } from '../match/pool.ts';
import { type Shape, shapesOf } from '../match/shapes.ts';
import type { Options } from '../support/benchmark.ts';
import { type LoadedMiner, loadFleet } from '../support/fleet-loader.ts';
import { benchSettings, openRegistry } from '../support/registry.ts';
import { whenStarted } from '../support/started.ts';
import { benchDatabase, benchRedis } from '../support/stores.ts';
import type { Undo } from '../support/undo.ts';

/** A hub in a process of its own, with its fleet. */
export interface HubUnderLoad {
  readonly url: string;
  readonly coordinatorSecret: string;
  /** One for each connection: a miner that beats. */
  readonly sessions: readonly LoadedMiner[];
  /** The kinds of requests of the match benchmark, for this fleet. */
  readonly shapes: readonly Shape[];
}

/** Loads the fleet and starts the hub on it. */
export async function startHubUnderLoad(
  options: Options,
  undo: Undo,
  progress: (line: string) => void,
): Promise<HubUnderLoad> {
  const redis = await benchRedis(undo);
  const settings = benchSettings(redis, await benchDatabase(undo, { migrated: true }));
  const registry = await openRegistry(settings, undo);
  const plan = { miners: options.miners, kind: options.fleet, seed: options.seed };
  const sessions = await loadFleet(registry, plan, options.connections, (online) =>
    progress(`${online} of ${options.miners} miners online`),
  );
  const shapes = shapesOf(await readPool(registry, options.miners));
  return {
    url: await startHub(settings, undo),
    coordinatorSecret: settings.COORDINATOR_SHARED_SECRET as string,
    sessions,
    shapes,
  };
}

/** Starts a hub as `startHubProcess` does. @returns its URL */
export async function startHub(settings: Record<string, string>, undo: Undo): Promise<string> {
  return (await startHubProcess(settings, undo)).url;
}

/**
 * Starts a hub as a process and waits until it is ready. It logs warnings only: a line for each request, read by this process, would
 * take from both what is to be measured.
 * @param nodeArguments for Node, beside what it takes to run a hub
 */
export function startHubProcess(
  settings: Record<string, string>,
  undo: Undo,
  nodeArguments: readonly string[] = [],
): Promise<{ url: string; program: Program }> {
  return onFreePort(async (port) => {
    const program = await startProgram(
      process.execPath,
      entryArguments('src/bin/hub.ts').toSpliced(-1, 0, ...nodeArguments),
      {
        cwd: packageRoot,
        env: {
          PATH: process.env.PATH,
          HOME: process.env.HOME,
          ...settings,
          POOLHUB_PORT: String(port),
          LOG_LEVEL: 'warn',
        },
      },
    );
    undo.push(() => program.stop());
    const url = `http://127.0.0.1:${port}`;
    await whenStarted(program, url, 'hub');
    return { url, program };
  });
}
