import * as v from 'valibot';
import { invalid } from '../../platform/errors.ts';
import { body, listOf, money } from '../../platform/fields.ts';
import type { HubDeps } from '../deps.ts';
import { type CommandRequest, MAX_TAGS, Term } from './schema.ts';

type Command = v.InferOutput<typeof CommandRequest>;

/** Waiting commands beside COMMANDS_MAX_PENDING: the last drain or resume, and the last price cap (lua/miners/command.lua). */
export const COMMANDS_BESIDE = 2;

/** What came of giving a command. `full`: COMMANDS_MAX_PENDING wait already, unacknowledged. */
export type GivenCommand = { status: 'ok'; id: string } | { status: 'unknown_miner' } | { status: 'full' };

/** The commands every miner is expected to know, and their arguments. Other names are the operator's own, with free arguments. */
const KNOWN_ARGS = {
  update_tags: body({ tags: listOf(Term, MAX_TAGS) }),
  set_price_cap: body({ cap: v.nullable(money()) }),
  drain: body({}),
  resume: body({}),
} as const;

/**
 * Queues a command for a miner until it acknowledges it, and tells the replica that holds its socket. `drain`, `resume` and
 * `set_price_cap` ({cap: tokens per 1,000 s, or null to lift it}) also take effect in the registry at once.
 * @throws AppError `invalid` when a known command has other arguments than its own
 */
export async function giveCommand(
  deps: Pick<HubDeps, 'miners'>,
  minerId: string,
  command: Command,
): Promise<GivenCommand> {
  const args = checkedArgs(command);
  return deps.miners.addCommand(minerId, command.name, args, priceCapOf(command.name, args));
}

function checkedArgs({ name, args }: Command): Record<string, unknown> {
  if (!Object.hasOwn(KNOWN_ARGS, name)) return args;
  const schema = v.object({ args: KNOWN_ARGS[name as keyof typeof KNOWN_ARGS] });
  const parsed = v.safeParse(schema, { args });
  if (!parsed.success) throw invalid(parsed.issues);
  return parsed.output.args;
}

/** The cap as the registry takes it; undefined for a command that sets none. */
function priceCapOf(name: string, args: Record<string, unknown>): string | undefined {
  if (name !== 'set_price_cap') return undefined;
  return args.cap === null ? 'none' : (args.cap as string);
}
