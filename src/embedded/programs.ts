import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Longest wait for a program that should answer at once (`--version`). */
const ANSWER_TIMEOUT_MS = 10_000;

/** Whether `file` is a regular file that this process may execute. */
export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** All programs called `name` in the folders of a PATH, in its order. Relative entries are ignored. */
export function findOnPath(name: string, path: string | undefined): string[] {
  const folders = (path ?? '').split(delimiter).filter(isAbsolute);
  return folders.map((folder) => join(folder, name)).filter(isExecutable);
}

export interface RunAs {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  uid?: number | undefined;
  gid?: number | undefined;
}

/** Standard output of a short command. @throws the error of `execFile` (exit code, signal, time-out, stderr). */
export async function outputOf(
  file: string,
  args: string[],
  options: RunAs & { timeoutMs?: number } = {},
): Promise<string> {
  const { timeoutMs, uid, gid, ...rest } = options;
  const { stdout } = await run(file, args, {
    cwd: '/',
    ...rest,
    ...(uid === undefined ? {} : { uid, gid }),
    timeout: timeoutMs ?? ANSWER_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: 16 * 1024 * 1024,
  });
  return stdout;
}

/**
 * The version a program reports, as [major, minor]; undefined when it does not run or says nothing of the kind.
 * `pattern` captures both numbers.
 */
export async function versionOf(
  file: string,
  pattern: RegExp,
  options: RunAs = {},
): Promise<[number, number] | undefined> {
  const text = await outputOf(file, ['--version'], options).catch(() => '');
  const found = pattern.exec(text);
  return found ? [Number(found[1]), Number(found[2])] : undefined;
}

/** The last line of what a program said, for messages of one line. */
export function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1)?.trim() ?? '';
}
