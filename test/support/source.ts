import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { packageRoot } from '../../src/platform/paths.ts';

/** A file of the project; paths are relative to the project folder, with forward slashes. */
export interface SourceFile {
  path: string;
  text: string;
}

export interface Import {
  /** Path of the imported file, or the name of a package or Node module. */
  target: string;
  typeOnly: boolean;
  /** Imported names; `*` stands for all of them. */
  names: string[];
}

/** All files below the folders whose names end in one of the extensions. A missing folder has none. */
export function readSources(folders: string[], extensions: string[]): SourceFile[] {
  return folders.flatMap((folder) => {
    const entries = readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' });
    return entries
      .filter((entry) => extensions.some((extension) => entry.endsWith(extension)))
      .sort()
      .map((entry) => read(join(folder, entry)));
  });
}

/** One file by its path. */
export function read(path: string): SourceFile {
  return { path, text: readFileSync(join(packageRoot, path), 'utf8') };
}

const STATIC_IMPORT = /^import\s+(type\s+)?([^'"]*?)\s*from\s+'([^']+)'/gm;
const BARE_IMPORT = /^import\s+'([^']+)'/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*'([^']+)'/g;

/** What a file imports, as the formatter writes it. */
export function importsOf({ path, text }: SourceFile): Import[] {
  const resolve = (target: string) =>
    target.startsWith('.') ? relative('.', normalize(join(dirname(path), target))) : target;
  const found: Import[] = [];
  for (const [, type, clause, target] of text.matchAll(STATIC_IMPORT)) {
    const names = namesIn(clause as string);
    const typeOnly = type !== undefined || names.every(({ type }) => type);
    found.push({ target: resolve(target as string), typeOnly, names: names.map(({ name }) => name) });
  }
  for (const [, target] of text.matchAll(BARE_IMPORT)) {
    found.push({ target: resolve(target as string), typeOnly: false, names: [] });
  }
  for (const [, target] of text.matchAll(DYNAMIC_IMPORT)) {
    found.push({ target: resolve(target as string), typeOnly: false, names: ['*'] });
  }
  return found;
}

function namesIn(clause: string): Array<{ name: string; type: boolean }> {
  if (clause.includes('* as')) return [{ name: '*', type: false }];
  const braces = /\{([\s\S]*)\}/.exec(clause)?.[1] ?? '';
  const before = clause.replace(/\{[\s\S]*\}/, '').replace(/[,\s]/g, '');
  const named = braces
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
    .map((item) => ({
      name: item.replace(/^type\s+/, '').split(/\s+as\s+/)[0] as string,
      type: item.startsWith('type '),
    }));
  return before === '' ? named : [{ name: 'default', type: false }, ...named];
}

export interface Export {
  name: string;
  /** An interface or type alias, which may be exported to name the shape of a value. */
  isType: boolean;
}

const DECLARATION =
  /^export\s+(?:declare\s+)?(?:abstract\s+)?(async\s+function\*?|function\*?|const|let|class|interface|type)\s+([A-Za-z_$][\w$]*)/gm;

/** What a file declares and exports in one statement, the only form used here. */
export function exportsOf({ text }: SourceFile): Export[] {
  return [...text.matchAll(DECLARATION)].map(([, kind, name]) => ({
    name: name as string,
    isType: kind === 'interface' || kind === 'type',
  }));
}

/** Splits the arguments of a call, or the elements of an array, at its commas; `text` starts after the bracket. */
export function splitList(text: string): string[] {
  const items: string[] = [];
  let depth = 0;
  let item = '';
  let quote = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at] as string;
    if (quote !== '') {
      if (char === '\\') item += text[at++];
      else if (char === quote) quote = '';
    } else if (`'"\``.includes(char)) {
      quote = char;
    } else if ('([{'.includes(char)) {
      depth += 1;
    } else if (')]}'.includes(char)) {
      depth -= 1;
      if (depth < 0) break;
    } else if (char === ',' && depth === 0) {
      items.push(item.trim());
      item = '';
      continue;
    }
    item += text[at] ?? '';
  }
  if (item.trim() !== '') items.push(item.trim());
  return items;
}
