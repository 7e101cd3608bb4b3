import { join } from 'node:path';
import { packageRoot } from '../../src/platform/paths.ts';

/**
 * The project compiled to JavaScript. A run of all tests makes it while it checks the types: the processes that tests start by the hundred
 * then start in half the time, as in production.
 */
const compiledIn = import.meta.filename.endsWith('.js') ? packageRoot : process.env.TEST_BUILD;

/**
 * What to give Node to run an entry point of the project, compiled where that has been done, else from source.
 * @param script relative to the project folder, such as `src/bin/hub.ts`
 * @param root another copy of the project, to be run from source
 */
export function entryArguments(script: string, root?: string): string[] {
  if (!script.endsWith('.ts')) return [join(root ?? packageRoot, script)];
  if (root === undefined && compiledIn) return [join(compiledIn, script.replace(/\.ts$/, '.js'))];
  return ['--import', 'tsx', join(root ?? packageRoot, script)];
}
