import * as v from 'valibot';
import { environment } from './environment.ts';
import type { Weights } from './settings.ts';

const MAX_STRATEGIES = 8;

type Environment = v.InferOutput<typeof environment>;

/** The settings, under the lower case of their names. `strategies` holds all of them, `balanced` first. */
export type Config = Readonly<{ [K in keyof Environment as Lowercase<K>]: Environment[K] }>;

/** The start cannot go on: one line per bad setting, by name. Values of secrets are never in it. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: ReadonlyArray<{ readonly name: string; readonly why: string }>;

  constructor(problems: ConfigError['problems']) {
    super(problems.map(({ name, why }) => `${name} ${why}`).join('\n'));
    this.problems = problems;
  }
}

/**
 * Reads every setting from the environment. An empty value counts as not set.
 * @throws ConfigError naming every bad or missing setting at once
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>> = process.env): Config {
  const given = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value.trim() !== ''),
  );
  const parsed = v.safeParse(environment, given);
  const problems = parsed.success ? [] : parsed.issues.map(describeIssue);
  if (given.REDIS_URL === undefined && given.REDIS_CLUSTER_NODES === undefined) {
    problems.push({ name: 'REDIS_URL', why: 'is required (or REDIS_CLUSTER_NODES)' });
  }
  if (!parsed.success) throw new ConfigError(problems);
  const all = { ...builtInStrategies(parsed.output.DEFAULT_WEIGHTS), ...parsed.output.STRATEGIES };
  if (Object.keys(all).length > MAX_STRATEGIES) {
    problems.push({
      name: 'STRATEGIES',
      why: `makes more than ${MAX_STRATEGIES} strategies with the built-in ones`,
    });
  }
  if (parsed.output.STRATEGIES.balanced !== undefined) {
    problems.push({ name: 'STRATEGIES', why: 'may not hold balanced: set DEFAULT_WEIGHTS' });
  }
  if (problems.length > 0) throw new ConfigError(problems);
  const entries = Object.entries({ ...parsed.output, STRATEGIES: all });
  return deepFreeze(
    Object.fromEntries(entries.map(([name, value]) => [name.toLowerCase(), value])) as Config,
  );
}

function builtInStrategies(balanced: Weights): Record<string, Weights> {
  return {
    balanced,
    cheapest: { cap: 0.2, price: 0.6, latency: 0.05, trust: 0.1, load: 0.05 },
    fastest: { cap: 0.2, price: 0.05, latency: 0.6, trust: 0.1, load: 0.05 },
    trusted: { cap: 0.2, price: 0.05, latency: 0.1, trust: 0.6, load: 0.05 },
  };
}

function describeIssue(issue: v.BaseIssue<unknown>): { name: string; why: string } {
  const name = v.getDotPath(issue) ?? 'environment';
  return { name, why: issue.received === 'undefined' ? 'is required' : issue.message };
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
