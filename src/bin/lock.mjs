import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * A lock between processes: a file that names its holder. A holder that is dead, or whose pid belongs to another
 * process by now, holds nothing. Plain JavaScript, because the launcher needs it before anything is installed.
 *
 * @typedef {{ release: () => void }} Lock
 */

/**
 * Takes the lock, or tells who has it.
 * @param {string} file
 * @returns {Lock | { holderPid: number }}
 */
export function tryLock(file) {
  mkdirSync(dirname(file), { recursive: true });
  const own = `${process.pid} ${startTimeOf(process.pid)}\n`;
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, own, { mode: 0o600 });
  try {
    for (;;) {
      // A link appears with its content, and only one process can make it.
      if (linked(draft, file)) return { release: () => rmSync(file, { force: true }) };
      const holder = contentOf(file);
      if (holder === undefined) continue;
      const pid = livingHolder(holder);
      if (pid !== undefined) return { holderPid: pid };
      removeStale(file, holder);
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/**
 * Another process may have replaced the stale file since it was read: it is moved aside first, and put back when it
 * turns out to be a new one.
 * @param {string} file
 * @param {string} stale
 */
function removeStale(file, stale) {
  const aside = `${file}.${process.pid}.stale`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    throw error;
  }
  if (contentOf(aside) !== stale) linked(aside, file);
  rmSync(aside, { force: true });
}

/**
 * @param {string} from
 * @param {string} to
 */
function linked(from, to) {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

/** @param {string} file */
function contentOf(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** @param {string} holder */
function livingHolder(holder) {
  const [pid, startTime] = holder.trim().split(' ');
  const number = Number(pid);
  if (!(number > 0)) return undefined;
  try {
    process.kill(number, 0);
  } catch (error) {
    // EPERM: it lives, and is somebody else's.
    if (codeOf(error) !== 'EPERM') return undefined;
  }
  return startTimeOf(number) === (startTime ?? '') ? number : undefined;
}

/**
 * Tells a process from a later one with the same pid: its start in clock ticks, or '' where /proc does not say.
 * @param {number} pid
 */
function startTimeOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Field 22; the name in field 2 may hold blanks and parentheses.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

/** @param {unknown} error */
function codeOf(error) {
  return /** @type {NodeJS.ErrnoException} */ (error).code;
}
