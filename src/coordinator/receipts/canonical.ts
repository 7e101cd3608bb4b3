/**
 * The bytes that are signed: JSON with sorted keys and without blanks and nulls, byte for byte what Python's
 * `json.dumps(value, sort_keys=True, separators=(',', ':'))` writes of what `json.loads` read.
 */
import { type JsonNode, JsonNumber, type JsonObject } from './json-text.ts';

/** What json.dumps escapes: quotes, backslashes and all but the printable ASCII characters. */
const ESCAPED = /["\\]|[^ -~]/g;

const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/** repr of a float writes an exponent outside of 1e-4 <= |x| < 1e16. */
const LOWEST_PLAIN_EXPONENT = -4;
const HIGHEST_PLAIN_EXPONENT = 15;

/** The canonical text of an object, pure ASCII. @param without members of the top level to leave out */
export function canonicalText(object: JsonObject, without: readonly string[] = []): string {
  return canonicalObject(new Map([...object].filter(([key]) => !without.includes(key))));
}

/** The float or integer of a lexeme as Python writes it: 0.00001 is 1e-05, 1e16 is 1e+16, 1.0 stays 1.0. */
export function pythonNumber(lexeme: string): string {
  if (/^-?\d+$/.test(lexeme)) return lexeme === '-0' ? '0' : lexeme;
  const value = Number(lexeme);
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : '-Infinity';
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  // Both languages write the shortest digits that read back as the same double; only the layout differs.
  const [mantissa = '', power] = Math.abs(value).toExponential().split('e');
  const digits = mantissa.replace('.', '');
  const exponent = Number(power);
  if (exponent < LOWEST_PLAIN_EXPONENT || exponent > HIGHEST_PLAIN_EXPONENT) {
    const size = String(Math.abs(exponent)).padStart(2, '0');
    return `${sign}${mantissa}e${exponent < 0 ? '-' : '+'}${size}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  return `${sign}${whole}.${digits.slice(exponent + 1) || '0'}`;
}

function canonical(node: Exclude<JsonNode, null>): string {
  if (typeof node === 'string') return quote(node);
  if (node instanceof JsonNumber) return pythonNumber(node.lexeme);
  if (typeof node === 'boolean') return String(node);
  if (node instanceof Map) return canonicalObject(node as JsonObject);
  const items = (node as readonly JsonNode[]).filter((item) => item !== null);
  return `[${items.map(canonical).join(',')}]`;
}

function canonicalObject(object: JsonObject): string {
  const members: string[] = [];
  for (const [key, value] of [...object].sort(([a], [b]) => compareCodePoints(a, b))) {
    if (value !== null) members.push(`${quote(key)}:${canonical(value)}`);
  }
  return `{${members.join(',')}}`;
}

function quote(text: string): string {
  return `"${text.replace(ESCAPED, escapeUnit)}"`;
}

/** Without the `u` flag the pattern matches UTF-16 units, as the two \uXXXX of a pair need it. */
function escapeUnit(unit: string): string {
  return SHORT_ESCAPES[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** JavaScript compares UTF-16 units, which puts U+1F600 before U+E000; Python compares code points. */
function compareCodePoints(a: string, b: string): number {
  for (let at = 0; at < a.length && at < b.length; ) {
    const left = a.codePointAt(at) as number;
    const right = b.codePointAt(at) as number;
    if (left !== right) return left - right;
    at += left > 0xffff ? 2 : 1;
  }
  return a.length - b.length;
}
