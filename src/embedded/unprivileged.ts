import { chmod, mkdir, readFile } from 'node:fs/promises';
import { outputOf, type RunAs } from './programs.ts';
import { SetupError } from './setup-error.ts';

/** Whom to run Postgres as: an empty object is ourselves. */
export type Identity = Pick<RunAs, 'uid' | 'gid'>;

const NAMES = ['nobody', 'postgres', 'daemon'];

/**
 * Postgres refuses to run as root, and initdb wants a user with a name: as root, the first of the well-known
 * unprivileged users.
 * @throws SetupError when root finds none of them.
 */
export async function postgresIdentity(): Promise<Identity> {
  if (process.getuid?.() !== 0) return {};
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  for (const name of NAMES) {
    const entry = lines.find(([user]) => user === name);
    if (entry !== undefined) return { uid: Number(entry[2]), gid: Number(entry[3]) };
  }
  throw new SetupError(
    'Postgres does not run as root and there is no user "nobody" to run it as: start as another user',
  );
}

/** Whether that identity can enter `folder` (all of its parents let it through). Tried, not computed. */
export async function canEnter(folder: string, identity: Identity): Promise<boolean> {
  return outputOf('/bin/sh', ['-c', 'cd -- "$1"', 'sh', folder], identity).then(
    () => true,
    () => false,
  );
}

/** Makes a folder that everybody can enter, whatever the umask, and only we can change. @returns its path */
export async function openFolder(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o755);
  return folder;
}
