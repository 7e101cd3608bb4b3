import { readdir, readFile } from 'node:fs/promises';

/** Linux counts processor time in hundredths of a second (USER_HZ), whatever the tick of the kernel. */
const MS_PER_TICK = 10;

/** From the end of the name on, which may hold blanks: the fields of /proc/<pid>/stat, numbered as in proc(5) less 3. */
const PPID = 1;
const UTIME = 11;
const CSTIME = 14;

/** Processor time of a process so far, ms, with that of the children it has waited for; undefined when it is not on this Linux. */
export async function cpuMs(pid: number): Promise<number | undefined> {
  const fields = await statOf(pid);
  return fields === undefined ? undefined : ticksIn(fields) * MS_PER_TICK;
}

/** The same with all of its children. */
export async function familyCpuMs(pid: number): Promise<number | undefined> {
  const own = await statOf(pid);
  if (own === undefined) return undefined;
  const pids = (await readdir('/proc')).map(Number).filter(Number.isInteger);
  const all = await Promise.all(pids.map(statOf));
  const children = all.filter((fields) => fields !== undefined && Number(fields[PPID]) === pid);
  return [own, ...children].reduce((sum, fields) => sum + ticksIn(fields as string[]), 0) * MS_PER_TICK;
}

/** The parent of a process; undefined as above. */
export async function parentOf(pid: number): Promise<number | undefined> {
  const fields = await statOf(pid);
  return fields === undefined ? undefined : Number(fields[PPID]);
}

function ticksIn(fields: readonly string[]): number {
  return fields.slice(UTIME, CSTIME + 1).reduce((sum, ticks) => sum + Number(ticks), 0);
}

async function statOf(pid: number): Promise<string[] | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ');
}
