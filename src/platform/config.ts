import * as v from 'valibot';
import { environment } from './environment.ts';
import type { Weights } from './settings.ts';

const MAX_STRATEGIES = 8;

type Environment = v.InferOutput<typeof environment>;

type Variables = Readonly<Record<string, string | undefined>>;

/** Settings under the lower case of their names. */
export type Lowered<T> = Readonly<{ [K in keyof T as Lowercase<K & string>]: T[K] }>;

/** The settings of the hub. `strategies` holds all of them, `balanced` first. */
export type Config = Lowered<Environment>;

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
export function loadConfig(env: Variables = process.env): Config {
  const given = givenSettings(env);
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
  if (
    parsed.output.COORDINATOR_BILLING_URL !== undefined &&
    parsed.output.COORDINATOR_API_KEY === undefined
  ) {
    problems.push({ name: 'COORDINATOR_API_KEY', why: 'is required with COORDINATOR_BILLING_URL' });
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return frozen({ ...parsed.output, STRATEGIES: all });
}

/**
 * Reads the settings of a schema, as `loadConfig` does those of the hub.
 * @throws ConfigError naming every bad or missing setting at once
 */
export function loadSettings<S extends v.GenericSchema<unknown, object>>(
  schema: S,
  env: Variables,
): Lowered<v.InferOutput<S>> {
  const parsed = v.safeParse(schema, givenSettings(env));
  if (!parsed.success) throw new ConfigError(parsed.issues.map(describeIssue));
  return frozen(parsed.output);
}

/** An empty value counts as not set. */
function givenSettings(env: Variables): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value.trim() !== ''),
  );
}

function frozen<T extends object>(settings: T): Lowered<T> {
  const entries = Object.entries(settings).map(([name, value]) => [name.toLowerCase(), value]);
  return deepFreeze(Object.fromEntries(entries));
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
