import { ConfigError } from '../platform/config.ts';
import { AppError, isConnectionError } from '../platform/errors.ts';
import { VERSION } from '../platform/version.ts';
import { HubError } from '../sdk/errors.ts';
import type { Command, Terminal } from './command.ts';
import { CommandError, UsageError } from './errors.ts';
import { formatTable } from './table.ts';

/** Loaded when called, so that a command does not wait for what the others need. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  'keys create': async () => (await import('./commands/keys.ts')).keysCreate,
  'keys revoke': async () => (await import('./commands/keys.ts')).keysRevoke,
  'keys list': async () => (await import('./commands/keys.ts')).keysList,
  seed: async () => (await import('./commands/seed.ts')).seed,
  simulate: async () => (await import('./commands/simulate.ts')).simulate,
  miner: async () => (await import('./commands/miner.ts')).miner,
  match: async () => (await import('./commands/match.ts')).match,
  demo: async () => (await import('./commands/demo.ts')).demo,
  'registry verify': async () => (await import('./commands/registry.ts')).registryVerify,
  'registry rebuild': async () => (await import('./commands/registry.ts')).registryRebuild,
  'registry show': async () => (await import('./commands/registry.ts')).registryShow,
  'shards plan': async () => (await import('./commands/shards.ts')).shardsPlan,
  'shards rebalance': async () => (await import('./commands/shards.ts')).shardsRebalance,
  'job run': async () => (await import('./commands/job.ts')).jobRun,
  'job watch': async () => (await import('./commands/job.ts')).jobWatch,
  'receipts verify': async () => (await import('./commands/receipts.ts')).receiptsVerify,
  'billing failures': async () => (await import('./commands/billing.ts')).billingFailures,
  'billing sync': async () => (await import('./commands/billing.ts')).billingSync,
  'billing usage': async () => (await import('./commands/billing.ts')).billingUsage,
  'sla report': async () => (await import('./commands/sla.ts')).slaReport,
  'capacity forecast': async () => (await import('./commands/capacity.ts')).capacityForecast,
  migrate: async () => (await import('./commands/migrate.ts')).migrate,
};

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/**
 * Runs one command. @param args what follows `poolhub`
 * @returns the exit code: 0 done, 1 failed, 2 called in a way that is not understood
 */
export async function main(args: readonly string[], terminal: Terminal): Promise<number> {
  if (args[0] === '--version') {
    terminal.out(VERSION);
    return 0;
  }
  const wantsHelp = args.some(isHelp) || args[0] === 'help';
  const words = args.slice(args[0] === 'help' ? 1 : 0).filter((word) => !isHelp(word));
  const [name, rest] = findCommand(words);
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (load === undefined) return listCommands(words, wantsHelp, terminal);
  const command = await load();
  if (wantsHelp) {
    terminal.out(command.help);
    return 0;
  }
  try {
    return await command.run(rest, terminal);
  } catch (error) {
    return explain(error, command.name, terminal);
  }
}

const isHelp = (word: string): boolean => word === '--help' || word === '-h';

/** Commands have one or two words. */
function findCommand(words: readonly string[]): [name: string, rest: readonly string[]] {
  const two = words.slice(0, 2).join(' ');
  return Object.hasOwn(COMMANDS, two) ? [two, words.slice(2)] : [words[0] ?? '', words.slice(1)];
}

/** Shows the commands that begin with a word, or all of them. */
async function listCommands(words: readonly string[], wanted: boolean, terminal: Terminal): Promise<number> {
  const [word] = words;
  const group = Object.keys(COMMANDS).filter((name) => name.startsWith(`${word} `));
  const unknown = word !== undefined && (group.length === 0 || words.length > 1);
  if (unknown && !wanted) {
    terminal.note(`poolhub: no command "${words.slice(0, 2).join(' ')}" (poolhub --help lists them)`);
    return EXIT_USAGE;
  }
  const names = group.length > 0 ? group : Object.keys(COMMANDS);
  const commands = await Promise.all(names.map((name) => COMMANDS[name]?.()));
  const rows = commands.flatMap((command) =>
    command === undefined ? [] : [[command.name, command.summary]],
  );
  const usage = `Usage: poolhub ${group.length > 0 ? `${word} ` : ''}<command> [options]`;
  const text = [
    usage,
    '',
    formatTable(['COMMAND', ''], rows),
    '',
    'poolhub <command> --help shows its options.',
  ];
  if (wanted) terminal.out(text.join('\n'));
  else terminal.note(text.join('\n'));
  return wanted ? 0 : EXIT_USAGE;
}

/** One line for what a user can act on; the stack for a fault of ours. */
function explain(error: unknown, name: string, terminal: Terminal): number {
  if (error instanceof UsageError) {
    terminal.note(`poolhub ${name}: ${error.message} (poolhub ${name} --help)`);
    return EXIT_USAGE;
  }
  terminal.note(`poolhub ${name}: ${reasonOf(error)}`);
  return EXIT_FAILURE;
}

function reasonOf(error: unknown): string {
  if (error instanceof HubError) {
    const details = error.details.map(({ path, message }) => `${path} ${message}`);
    const request = error.request_id === undefined ? '' : `, request ${error.request_id}`;
    return `${[error.message, ...details].join('; ')} (${error.code}${request})`;
  }
  if (error instanceof ConfigError) return `bad settings: ${error.message.replaceAll('\n', '; ')}`;
  if (error instanceof CommandError || error instanceof AppError) return error.message;
  if (!(error instanceof Error)) return String(error);
  const { code, message } = error as NodeJS.ErrnoException;
  // A host with several addresses fails with several errors in one, which has a code but no message.
  if (isConnectionError(error)) return `a store cannot be reached (${message || code})`;
  // An error with a code is the system's or a store's, and its message says it all.
  return code === undefined ? (error.stack ?? message) : message;
}
