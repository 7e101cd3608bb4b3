import type { SourceFile } from './source.ts';
import { splitList } from './source.ts';

/** One line under ARGV in a script's header. */
export interface HeaderArgument {
  /** 1-based. */
  index: number;
  name: string;
  /** It and all that follow: `ARGV[9..]`. */
  rest: boolean;
  unused: boolean;
}

export interface ScriptHeader {
  purpose: string;
  hasKeys: boolean;
  arguments: HeaderArgument[];
  hasReturns: boolean;
}

/** The comment that a script starts with. @throws Error when it does not start with one */
export function headerOf({ path, text }: SourceFile): ScriptHeader {
  const header = /^--\[\[ ([\s\S]*?)\n\]\]\n/.exec(text)?.[1];
  if (header === undefined) throw new Error(`${path} does not start with a --[[ ]] header`);
  const lines = [...header.matchAll(/^ARGV\[(\d+)(\.\.)?\]\s+([a-z_]+)(.*)$/gm)];
  return {
    purpose: header.split(/\n\n/)[0]?.trim() ?? '',
    hasKeys: /^KEYS\[1\]\s+\S/m.test(header),
    arguments: lines.map(([, index, rest, name, note]) => ({
      index: Number(index),
      name: name as string,
      rest: rest !== undefined,
      unused: (note ?? '').includes('not used'),
    })),
    hasReturns: /^RETURNS \S/m.test(header),
  };
}

/** The locals that stand for ARGV, by its index: `local a, b = ARGV[1], tonumber(ARGV[2])`. */
export function argumentLocals({ text }: SourceFile): Map<number, string> {
  const locals = new Map<number, string>();
  for (const [, left, right] of text.matchAll(/^local ([a-z_, ]+) = (.*ARGV\[\d+\].*)$/gm)) {
    const names = (left as string).split(',').map((name) => name.trim());
    for (const [at, value] of splitList(right as string).entries()) {
      const index = /ARGV\[(\d+)\]/.exec(value)?.[1];
      if (index !== undefined) locals.set(Number(index), names[at] ?? '');
    }
  }
  return locals;
}

export interface ScriptCall {
  path: string;
  /** Values passed as ARGV[2..]. */
  values: number;
  /** The last is a list of any length. */
  spread: boolean;
}

/**
 * The calls of a script in a TypeScript file: its name, in the executor's `run` the shard, and then the values one by
 * one or in array literals.
 */
export function callsOf(script: string, { path, text }: SourceFile): ScriptCall[] {
  const calls: ScriptCall[] = [];
  for (const match of text.matchAll(new RegExp(`([\\w.#]+)\\('${script}',?`, 'g'))) {
    const [whole, callee] = match as unknown as [string, string];
    const passed = splitList(text.slice(match.index + whole.length));
    if (/scripts\.run$/.test(callee)) passed.shift();
    const values = passed.flatMap((item) => (item.startsWith('[') ? splitList(item.slice(1)) : [item]));
    const fixed = values.filter((value) => !value.startsWith('...'));
    calls.push({ path, values: fixed.length, spread: fixed.length < values.length });
  }
  return calls;
}
