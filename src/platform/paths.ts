import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'lua', 'include'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error('the lua/ folder is missing beside src/ or dist/');
    folder = parent;
  }
  return folder;
}

/** Folder that holds package.json, lua/ and drizzle/; the same from src/ and from dist/. */
export const packageRoot: string = findRoot();
