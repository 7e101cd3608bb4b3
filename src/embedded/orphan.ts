import { readFile, readlink, realpath } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { outputOf } from './programs.ts';

const GRACE_MS = 15_000;

/**
 * Ends a store that an earlier run left behind: its watchdog stops it when the run is killed, which may still be under
 * way. The pid file may also be a leftover of a crash, with its pid given to a stranger since: a process is only
 * touched when it works in the store's data folder.
 * @param pidFile first line is the pid.
 */
export async function endOrphan(pidFile: string, dataDir: string, stopSignal: NodeJS.Signals): Promise<void> {
  const text = await readFile(pidFile, 'utf8').catch(() => '');
  const pid = Number.parseInt(text, 10);
  if (!(pid > 1) || !(await worksIn(pid, dataDir))) return;
  const deadline = Date.now() + GRACE_MS;
  send(pid, stopSignal);
  while (await worksIn(pid, dataDir)) {
    if (Date.now() > deadline) send(pid, 'SIGKILL');
    await delay(50);
  }
}

async function worksIn(pid: number, dataDir: string): Promise<boolean> {
  if (process.platform === 'linux') {
    const folder = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
    return folder !== undefined && folder === (await realpath(dataDir).catch(() => dataDir));
  }
  // A finished process makes ps fail: it works nowhere.
  const command = await outputOf('/bin/ps', ['-o', 'args=', '-p', String(pid)]).catch(() => '');
  return command.includes(dataDir);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
