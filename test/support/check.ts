import { join } from 'node:path';
import { startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';

const modules = join(packageRoot, 'node_modules');
const CHECKS = {
  types: [join(modules, 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json'],
  lint: [join(modules, '@biomejs', 'biome', 'bin', 'biome'), 'check', '--error-on-warnings', '.'],
};
const EMIT = ['--noEmit', 'false', '--sourceMap', '--rootDir', packageRoot, '--outDir'];

/**
 * Types and lint.
 * @param outDir where the compiler leaves the project as JavaScript on the way
 * @returns the names of those that failed; what they have to say is printed
 */
export async function check(outDir?: string): Promise<string[]> {
  const failed: string[] = [];
  await Promise.all(
    Object.entries(CHECKS).map(async ([name, args]) => {
      const emit = name === 'types' && outDir !== undefined ? [...EMIT, outDir] : [];
      const program = await startProgram(process.execPath, [...args, ...emit], {
        cwd: packageRoot,
        onOutput: (text) => process.stdout.write(text),
      });
      const { code } = await program.exited;
      if (code !== 0) failed.push(name);
    }),
  );
  return failed;
}

if (process.argv[1] === import.meta.filename) {
  const failed = await check();
  console.log(failed.length === 0 ? 'Types and lint pass' : `Failed: ${failed.join(', ')}`);
  process.exitCode = failed.length === 0 ? 0 : 1;
}
