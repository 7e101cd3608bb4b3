import { BlockList, isIP } from 'node:net';
import * as v from 'valibot';

/** Weights of the five score parts; they sum to 1. */
export type Weights = Readonly<Record<(typeof PARTS)[number], number>>;

/** One block of addresses, as BlockList.addSubnet takes it. */
export interface Cidr {
  readonly address: string;
  readonly prefix: number;
  readonly family: 'ipv4' | 'ipv6';
}

const PARTS = ['cap', 'price', 'latency', 'trust', 'load'] as const;
const WEIGHT_SUM_TOLERANCE = 1e-6;
const STRATEGY_NAME = /^[a-z][a-z0-9_-]{0,31}$/;

/** A whole number of at least `min` and at most `max`, written in plain decimal digits. */
export function whole(min: number, max: number) {
  return v.pipe(
    v.string(),
    v.regex(/^\d{1,15}$/, 'must be a whole number'),
    v.transform(Number),
    v.minValue(min, `must be at least ${min}`),
    v.maxValue(max, `must be at most ${max}`),
  );
}

/** A number of at least `min` and at most `max`, written as a plain decimal. */
export function decimal(min: number, max: number) {
  return v.pipe(
    v.string(),
    v.regex(/^\d{1,12}(\.\d{1,12})?$/, 'must be a plain decimal number'),
    v.transform(Number),
    v.minValue(min, `must be at least ${min}`),
    v.maxValue(max, `must be at most ${max}`),
  );
}

/** A price, kept as the decimal text it is: as a number it might lose its last digits. */
export function price() {
  return text(/^\d{1,6}(\.\d{1,8})?$/, 'must be a decimal below 1000000, with at most 8 decimals');
}

/** Text which fits `pattern`; `why` says what the pattern wants. */
export function text(pattern: RegExp, why: string) {
  return v.pipe(v.string(), v.regex(pattern, why));
}

/** One of a closed set of words. */
export function oneOf<const T extends readonly string[]>(words: T) {
  return v.picklist(words, `must be one of ${words.join(', ')}`);
}

/** An absolute URL with one of the given schemes (`redis:`); the value never shows up in the message. */
export function url(schemes: readonly string[]) {
  const isUrl = (value: string) => URL.canParse(value) && schemes.includes(new URL(value).protocol);
  return v.pipe(v.string(), v.check(isUrl, `must be a URL that starts with ${schemes.join(' or ')}`));
}

/** A URL that fetch takes: of http or https, without a user and a password, which fetch refuses and then shows in its message. */
export function webUrl() {
  const isWebUrl = (value: string) => {
    if (!URL.canParse(value)) return false;
    const { protocol, username, password } = new URL(value);
    return /^https?:$/.test(protocol) && username === '' && password === '';
  };
  return v.pipe(
    v.string(),
    v.check(isWebUrl, 'must be a URL that starts with http: or https:, without a user and password'),
  );
}

/** A comma list; blanks around the items and empty items are dropped. */
export function list(min: number, max: number) {
  return v.pipe(
    v.string(),
    v.transform((value) =>
      value
        .split(',')
        .map((item) => item.trim())
        .filter((item) => item !== ''),
    ),
    v.minLength(min, `must have at least ${min} item${min === 1 ? '' : 's'}`),
    v.maxLength(max, `must have at most ${max} items`),
    v.readonly(),
  );
}

/** A comma list of addresses and CIDR blocks, IPv4 or IPv6. */
export function cidrs() {
  return v.pipe(
    list(0, 1024),
    v.rawTransform(({ dataset, addIssue, NEVER }): readonly Cidr[] => {
      const blocks = dataset.value.map(parseCidr);
      const wrong = dataset.value.filter((_, i) => blocks[i] === undefined);
      if (wrong.length === 0) return blocks.filter((block) => block !== undefined);
      addIssue({ message: `not an address or CIDR block: ${wrong.join(', ')}` });
      return NEVER;
    }),
  );
}

/** A comma list of host:port. */
export function hostPorts() {
  return v.pipe(
    list(0, 256),
    v.check((nodes) => nodes.every(isHostPort), 'must be a comma list of host:port'),
  );
}

/** `cap:0.4,price:0.2,...`: all five parts once, summing to 1 within 1e-6, then normalised to sum to 1 exactly. */
export function weights() {
  return v.pipe(
    v.string(),
    v.rawTransform(({ dataset, addIssue, NEVER }): Weights => {
      const parsed = parseWeights(dataset.value);
      if (typeof parsed !== 'string') return parsed;
      addIssue({ message: parsed });
      return NEVER;
    }),
  );
}

/** `name=cap:..,price:..,...;name2=...`: strategies by name, each with weights as in DEFAULT_WEIGHTS. */
export function strategies() {
  return v.pipe(
    v.string(),
    v.rawTransform(({ dataset, addIssue, NEVER }): Readonly<Record<string, Weights>> => {
      const found = new Map<string, Weights>();
      for (const entry of dataset.value.split(';')) {
        if (entry.trim() === '') continue;
        const [name = '', ...rest] = entry.split('=');
        const parsed = parseWeights(rest.join('='));
        if (!STRATEGY_NAME.test(name.trim())) {
          addIssue({ message: 'a strategy name is 1-32 of a-z, 0-9, _ and -, and starts with a letter' });
          return NEVER;
        }
        if (typeof parsed === 'string') {
          addIssue({ message: `${name.trim()}: ${parsed}` });
          return NEVER;
        }
        found.set(name.trim(), parsed);
      }
      return Object.fromEntries(found);
    }),
  );
}

function parseCidr(item: string): Cidr | undefined {
  const [address = '', bits, ...rest] = item.split('/');
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return undefined;
  const widest = version === 4 ? 32 : 128;
  const prefix = bits === undefined ? widest : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
  if (prefix < 0 || prefix > widest) return undefined;
  return { address, prefix, family: version === 4 ? 'ipv4' : 'ipv6' };
}

function isHostPort(item: string): boolean {
  const match = /^[A-Za-z0-9._-]+:(\d{1,5})$/.exec(item);
  const port = Number(match?.[1]);
  return port >= 1 && port <= 65_535;
}

/** The weights, or what is wrong with them. */
function parseWeights(value: string): Weights | string {
  const found = new Map<string, number>();
  for (const item of value.split(',')) {
    const [name = '', number = ''] = item.split(':').map((side) => side.trim());
    if (!PARTS.some((part) => part === name)) return `must name ${PARTS.join(', ')} once each`;
    if (found.has(name)) return `names ${name} twice`;
    if (!/^\d(\.\d{1,12})?$/.test(number)) return `${name} must be a number from 0 to 1`;
    found.set(name, Number(number));
  }
  if (found.size !== PARTS.length) return `must name ${PARTS.join(', ')} once each`;
  const sum = [...found.values()].reduce((total, weight) => total + weight, 0);
  if (Math.abs(sum - 1) > WEIGHT_SUM_TOLERANCE)
    return `weights must sum to 1, they sum to ${Number(sum.toFixed(6))}`;
  const part = (name: string) => (found.get(name) ?? 0) / sum;
  return {
    cap: part('cap'),
    price: part('price'),
    latency: part('latency'),
    trust: part('trust'),
    load: part('load'),
  };
}

/** The blocks as one set that answers "is this address in it?"; the test is exact for IPv4-mapped IPv6 too. */
export function addressSet(blocks: readonly Cidr[]): BlockList {
  const set = new BlockList();
  for (const { address, prefix, family } of blocks) set.addSubnet(address, prefix, family);
  return set;
}
