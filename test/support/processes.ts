import { type Program, startProgram } from '../../src/embedded/supervise.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from './entry.ts';

export interface ProcessOptions {
  args?: string[];
  /** The whole environment of the process, beside PATH and HOME. */
  env?: Record<string, string>;
  /** Printed by the process once it can be used. */
  ready: RegExp;
  readyTimeoutMs?: number;
  /** Another copy of the project to run the script of. */
  root?: string;
  /** Another user to run it as. */
  uid?: number | undefined;
  gid?: number | undefined;
}

export interface TestProcess extends Program {
  /** What the ready line matched. */
  ready: RegExpExecArray;
}

/**
 * Starts an entry point of the project as a process of its own and waits for its ready line. It ends with
 * the test process, however that ends.
 * @param script relative to the project folder, such as `src/bin/hub.ts`
 * @throws Error with the output when it ends or stays silent instead
 */
export async function startScript(script: string, options: ProcessOptions): Promise<TestProcess> {
  const { args = [], env = {}, ready, readyTimeoutMs = 30_000, root, uid, gid } = options;
  let check = () => {};
  const program = await startProgram(
    process.execPath,
    ['--enable-source-maps', ...entryArguments(script, root), ...args],
    {
      cwd: root ?? packageRoot,
      uid,
      gid,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, TZ: 'UTC', ...env },
      onOutput: () => check(),
    },
  );
  let timer: NodeJS.Timeout | undefined;
  const found = await new Promise<RegExpExecArray | string>((resolve) => {
    check = () => {
      const match = ready.exec(program.output());
      if (match) resolve(match);
    };
    check();
    timer = setTimeout(
      () => resolve(`said nothing like ${ready} within ${readyTimeoutMs} ms`),
      readyTimeoutMs,
    );
    program.exited.then(({ code, signal }) => resolve(`ended with ${signal ?? code}`));
  });
  clearTimeout(timer);
  check = () => {};
  if (typeof found !== 'string') return { ...program, ready: found };
  await program.stop();
  throw new Error(`${script} ${found}; its output:\n${program.output()}`);
}
