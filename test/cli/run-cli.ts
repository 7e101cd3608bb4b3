import { spawn } from 'node:child_process';
import { packageRoot } from '../../src/platform/paths.ts';
import { entryArguments } from '../support/entry.ts';

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const TIMEOUT_MS = 60_000;

/** Runs `poolhub` as a user would, with exactly this environment beside PATH. */
export function runCli(args: readonly string[], env: Record<string, string> = {}): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...entryArguments('src/cli/poolhub.ts'), ...args], {
      cwd: packageRoot,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: TIMEOUT_MS,
    });
    const result = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (text: string) => {
        result[name] += text;
      });
    }
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, ...result }));
  });
}
