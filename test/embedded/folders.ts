import { chmod, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** A new temporary folder, removed by `cleanup`. Open to every user as /tmp is, since Postgres may run as another one. */
export async function temporaryFolder(cleanup: (work: () => unknown) => void): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'poolhub-embedded-'));
  await chmod(folder, 0o1777);
  cleanup(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A folder of links to everything on PATH whose name does not match: a machine without those programs. */
export async function pathWithout(hidden: RegExp, folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    // PATH may name folders that do not exist.
    for (const name of await readdir(directory).catch(() => [])) {
      if (hidden.test(name)) continue;
      // The first folder of PATH wins.
      await symlink(join(directory, name), join(folder, name)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      });
    }
  }
  return folder;
}
