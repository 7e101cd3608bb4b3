import { parseArgs } from 'node:util';
import { UsageError } from './errors.ts';

interface OptionSpec {
  readonly type: 'string' | 'boolean';
  /** May be given several times. */
  readonly multiple?: boolean;
  readonly help: string;
  /** Stands for the value in the help. */
  readonly value?: string;
  readonly default?: string;
}

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

type ValueOf<S extends OptionSpec> = S['type'] extends 'boolean'
  ? boolean
  : S['multiple'] extends true
    ? string[]
    : S['default'] extends string
      ? string
      : string | undefined;

type Values<O extends OptionSpecs> = { readonly [K in keyof O]: ValueOf<O[K]> };

/** What a command works with, beside its arguments. */
export interface Terminal {
  readonly env: NodeJS.ProcessEnv;
  /** A line of data, on standard output. */
  out(line: string): void;
  /** A line for the person at the terminal, on standard error. */
  note(line: string): void;
  /** Aborted by Ctrl-C or SIGTERM; a command that never asks for it is ended by them. */
  stopSignal(): AbortSignal;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** The whole text of `--help`. */
  readonly help: string;
  /** @throws UsageError for bad arguments. @returns the exit code */
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

interface Definition<O extends OptionSpecs> {
  /** One or two words: `match`, `keys create`. */
  readonly name: string;
  readonly summary: string;
  /** Names of the arguments that are no options; all are needed. */
  readonly positionals?: readonly string[];
  readonly options: O;
  /** Paragraphs below the options. */
  readonly notes?: string;
  /** @returns the exit code, 0 when nothing */
  run(
    input: { values: Values<O>; positionals: readonly string[] },
    terminal: Terminal,
  ): Promise<number | undefined>;
}

const HELP_COLUMN = 28;

/** Makes a command with checked arguments and its help out of one description. */
export function defineCommand<const O extends OptionSpecs>(definition: Definition<O>): Command {
  const { name, summary, positionals: wanted = [] } = definition;
  return {
    name,
    summary,
    help: helpOf(definition),
    async run(args, terminal) {
      const { values, positionals } = parse(definition.options, args);
      if (positionals.length !== wanted.length) {
        const names = wanted.map((word) => `<${word}>`).join(' ');
        throw new UsageError(wanted.length === 0 ? 'takes no arguments' : `needs ${names}`);
      }
      return (await definition.run({ values: values as Values<O>, positionals }, terminal)) ?? 0;
    },
  };
}

function parse(options: OptionSpecs, args: readonly string[]) {
  const specs = Object.entries(options).map(([name, spec]) => [
    name,
    {
      type: spec.type,
      ...(spec.multiple === true ? { multiple: true } : {}),
      ...defaultOf(spec),
    },
  ]);
  try {
    return parseArgs({ args: [...args], options: Object.fromEntries(specs), allowPositionals: true });
  } catch (error) {
    // The first sentence says what is wrong; advice on how to pass dashes follows.
    const [what = ''] = (error as Error).message.split(/\.\s/);
    throw new UsageError(what);
  }
}

function defaultOf(spec: OptionSpec): { default?: string | boolean | string[] } {
  if (spec.multiple === true) return { default: [] };
  if (spec.type === 'boolean') return { default: false };
  return spec.default === undefined ? {} : { default: spec.default };
}

function helpOf({ name, summary, positionals = [], options, notes }: Definition<OptionSpecs>): string {
  const usage = ['poolhub', name, ...positionals.map((word) => `<${word}>`), '[options]'].join(' ');
  const lines = Object.entries(options).map(([option, spec]) => {
    const left = `  --${option}${spec.type === 'string' ? ` <${spec.value ?? 'text'}>` : ''}`;
    const more = spec.multiple === true ? '; may be repeated' : '';
    const fallback = spec.default ? ` (${spec.default})` : '';
    return `${left.padEnd(HELP_COLUMN)} ${spec.help}${more}${fallback}`;
  });
  lines.push(`${'  --help'.padEnd(HELP_COLUMN)} show this`);
  return [`Usage: ${usage}`, '', summary, '', 'Options:', ...lines, ...(notes ? ['', notes] : [])].join('\n');
}
