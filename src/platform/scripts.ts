import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { unavailable } from './errors.ts';
import { scriptKeys } from './keys.ts';
import { packageRoot } from './paths.ts';
import { masters, type RedisClient } from './redis.ts';

/** A Lua value that a constant may have; tables are arrays or string-keyed. */
export type LuaConstant =
  | string
  | number
  | boolean
  | readonly LuaConstant[]
  | { readonly [key: string]: LuaConstant };

/** What a script answers: a status word, then fields (strings, or nested lists). */
export type ScriptReply = [status: string, ...fields: unknown[]];

/** Called after each script call, for the duration histogram. */
export type ScriptObserver = (script: string, durationMs: number, failed: boolean) => void;

/** The shards as this process knows them. */
export interface KnownLayout {
  /** What a shard must hold as `layout` for a script to run on it. */
  readonly text: string;
  /** Constants of the scripts that follow from it. */
  readonly constants: Readonly<Record<string, LuaConstant>>;
}

/** Who knows how many shards there are (hub/registry/layout.ts). */
export interface LayoutSource {
  /** Undefined before it was first read. */
  readonly known: KnownLayout | undefined;
  /** Reads it anew. Throws what Redis throws. */
  refresh(): Promise<unknown>;
  /** A shard holds another than `known`: brings the two together. Throws what Redis throws. */
  reconcile(shard: number, text: string): Promise<void>;
}

export interface ScriptsOptions {
  /** Prefix of all keys, REDIS_PREFIX. */
  prefix: string;
  /** Compiled into every script as the table `C`: fleet-wide settings that must not differ between calls. */
  constants: Record<string, LuaConstant>;
  observe?: ScriptObserver;
  /** Replaces Redis TIME (ms since the epoch); lets a test drive leases through hours without waiting. */
  clock?: () => number;
}

const SCRIPT_KEYS = 2;

/** Run on a shard whatever its layout is: it is what reads and writes it. */
const LAYOUT_SCRIPT = 'registry/layout';
/**
 * Put before every other script: a call by a process that knows of other shards than the shard itself changes nothing there. So no clock and no
 * waiting is needed for all processes to agree on where a miner lives.
 */
const FENCE = `do
  local layout = redis.call('GET', KEYS[1] .. 'layout') or ''
  if layout ~= C.layout then return { 'other_layout', layout } end
end
`;
const OTHER_LAYOUT = 'other_layout';
/** Layouts change twice in a rebalance; whoever meets so many others in one call has met a fault. */
const LAYOUT_ATTEMPTS = 10;
const LAYOUT_BACKOFF_MS = 5;
const INCLUDE = /^--- @include "([a-z_/]+)"\s*$/gm;

/** Writes a constant as a Lua literal. Keys must be identifiers. */
function luaLiteral(value: LuaConstant): string {
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : 'math.huge';
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return luaString(value);
  if (Array.isArray(value)) return `{${value.map((item) => luaLiteral(item as LuaConstant)).join(',')}}`;
  const pairs = Object.entries(value).map(([key, item]) => `${key}=${luaLiteral(item as LuaConstant)}`);
  return `{${pairs.join(',')}}`;
}

function luaString(text: string): string {
  const bytes = [...Buffer.from(text, 'utf8')];
  const safe = (b: number) => b >= 32 && b < 127 && b !== 34 && b !== 92;
  return `"${bytes.map((b) => (safe(b) ? String.fromCharCode(b) : `\\${String(b).padStart(3, '0')}`)).join('')}"`;
}

/** Reads `lua/<name>.lua` and puts each include in its place once, in order of first mention. */
function assembleScript(name: string, folder = join(packageRoot, 'lua')): string {
  const seen = new Set<string>();
  const expand = (file: string): string =>
    readFileSync(join(folder, `${file}.lua`), 'utf8').replace(INCLUDE, (_line, included: string) => {
      if (seen.has(included)) return '';
      seen.add(included);
      return expand(`include/${included}`);
    });
  return expand(name);
}

/** Names one call of a script that may not happen twice (`lua/include/once.lua`): 72 random bits. */
export function callToken(): string {
  return randomBytes(9).toString('base64url');
}

/**
 * The one executor of Lua scripts. It calls a script by digest with the shard prefix as the first key and the clock as the first
 * argument, times it, and sends its source after NOSCRIPT (a first use, a restarted server, a new master, a new layout) and the call again
 * when the shard follows another layout than was known here. No other failure is retried here: only the caller knows what may run twice.
 */
export class Scripts {
  readonly prefix: string;
  readonly #redis: RedisClient;
  readonly #options: ScriptsOptions;
  readonly #scripts = new Map<string, { sha: string; source: string }>();
  #layouts: LayoutSource | undefined;
  #head: string;
  #headLayout: KnownLayout | undefined;

  constructor(redis: RedisClient, options: ScriptsOptions) {
    this.#redis = redis;
    this.#options = options;
    this.prefix = options.prefix;
    this.#head = headOf(options.constants);
  }

  /** From now on, scripts run only on shards that hold the layout known to `layouts`. */
  follow(layouts: LayoutSource): void {
    this.#layouts = layouts;
  }

  /** Loads scripts on every master; called at start so that the first requests do not pay for it. */
  async load(names: readonly string[]): Promise<void> {
    if (this.#layouts?.known === undefined) await this.#layouts?.refresh();
    const sources = names.map((name) => this.#script(name).source);
    await Promise.all(
      masters(this.#redis).flatMap((node) => sources.map((source) => node.script('LOAD', source))),
    );
  }

  /**
   * Runs `lua/<name>.lua` on a shard. `args` become ARGV[2..]; ARGV[1] is the clock.
   * @param shard a function is asked again in each attempt, together with the layout that the call is held to
   * @throws AppError `unavailable` when the shards keep changing; else what Redis or the connection throws
   */
  async run(
    name: string,
    shard: number | (() => number),
    args: readonly (string | number)[],
  ): Promise<ScriptReply> {
    const layouts = name === LAYOUT_SCRIPT ? undefined : this.#layouts;
    if (layouts?.known === undefined) await layouts?.refresh();
    for (let attempt = 0; attempt < LAYOUT_ATTEMPTS; attempt++) {
      // Nothing may wait between these two: the shard is the one of this layout.
      const at = typeof shard === 'number' ? shard : shard();
      const reply = await this.#call(name, at, args);
      if (reply[0] !== OTHER_LAYOUT || layouts === undefined) return reply;
      if (attempt > 1) await sleep(Math.random() * LAYOUT_BACKOFF_MS * 2 ** attempt);
      await layouts.reconcile(at, reply[1] as string);
    }
    throw unavailable('the registry, whose shards are changing,');
  }

  async #call(name: string, shard: number, args: readonly (string | number)[]): Promise<ScriptReply> {
    const { sha, source } = this.#script(name);
    const keys = scriptKeys(this.prefix, shard);
    const clock = this.#options.clock?.() ?? '';
    const started = performance.now();
    let failed = true;
    try {
      const reply = await this.#evalsha(sha, source, [...keys, clock, ...args]);
      failed = false;
      return reply as ScriptReply;
    } finally {
      this.#options.observe?.(name, performance.now() - started, failed);
    }
  }

  async #evalsha(sha: string, source: string, keysAndArgs: (string | number)[]): Promise<unknown> {
    try {
      return await this.#redis.evalsha(sha, SCRIPT_KEYS, ...keysAndArgs);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
      // The server keeps what it evaluates; just this node lacks it.
      return await this.#redis.eval(source, SCRIPT_KEYS, ...keysAndArgs);
    }
  }

  #script(name: string): { sha: string; source: string } {
    const layout = this.#layouts?.known;
    if (layout !== this.#headLayout) {
      this.#headLayout = layout;
      this.#head = headOf(this.#options.constants, layout);
      this.#scripts.clear();
    }
    let script = this.#scripts.get(name);
    if (script === undefined) {
      const source = (name === LAYOUT_SCRIPT ? '' : this.#head) + assembleScript(name);
      script = { source, sha: createHash('sha1').update(source).digest('hex') };
      this.#scripts.set(name, script);
    }
    return script;
  }
}

function headOf(constants: Record<string, LuaConstant>, layout?: KnownLayout): string {
  if (layout === undefined) return `local C = ${luaLiteral(constants)}\n`;
  return `local C = ${luaLiteral({ ...constants, ...layout.constants, layout: layout.text })}\n${FENCE}`;
}
