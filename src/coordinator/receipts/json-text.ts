/**
 * JSON that keeps the text of its numbers. `JSON.parse` makes 1 out of 1.0 and rounds long integers, after which a signature over
 * the text no longer verifies.
 */

/** A number as it was written. */
export class JsonNumber {
  readonly lexeme: string;

  constructor(lexeme: string) {
    this.lexeme = lexeme;
  }
}

export type JsonNode = null | boolean | string | JsonNumber | readonly JsonNode[] | JsonObject;

/** Members in the order of the text; of a key that is repeated the last value counts, as for JSON.parse and Python. */
export type JsonObject = ReadonlyMap<string, JsonNode>;

/** The text is not JSON, or nests too deep. The message holds nothing of the text. */
export class JsonTextError extends Error {
  override readonly name = 'JsonTextError';
}

/** A request body may have 32 levels; a receipt holds parts of bodies two levels down. */
const MAX_DEPTH = 64;

/** The next token with the blanks before it: a mark, a string (its escapes are checked by JSON.parse), a number, a word. */
const TOKEN =
  /[ \t\n\r]*(?:([{}[\],:])|("[^"\\]*(?:\\.[^"\\]*)*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null)|$)/y;

const WORDS: Readonly<Record<string, boolean | null>> = { true: true, false: false, null: null };

type Token =
  | { readonly kind: 'mark'; readonly mark: string }
  | { readonly kind: 'value'; readonly value: string | JsonNumber | boolean | null }
  | { readonly kind: 'end' };

/**
 * Parses JSON text, numbers as they are written.
 * @throws JsonTextError
 */
export function parseJsonText(text: string): JsonNode {
  const next = tokensOf(text);
  const value = parseValue(next(), next, 0);
  if (next().kind !== 'end') throw new JsonTextError('there is something after the value');
  return value;
}

/** Writes JSON without blanks, numbers as they were written. */
export function writeJsonText(node: JsonNode): string {
  if (node instanceof JsonNumber) return node.lexeme;
  if (Array.isArray(node)) return `[${node.map(writeJsonText).join(',')}]`;
  if (node instanceof Map) {
    return `{${[...node].map(([key, value]) => `${JSON.stringify(key)}:${writeJsonText(value)}`).join(',')}}`;
  }
  return JSON.stringify(node);
}

/** The same with the members of objects in the order of their names (UTF-16): one text for all orders in which a client may write them. */
export function sortedJsonText(node: JsonNode): string {
  if (Array.isArray(node)) return `[${node.map(sortedJsonText).join(',')}]`;
  if (!(node instanceof Map)) return writeJsonText(node);
  const members = [...(node as JsonObject)].sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, value]) => `${JSON.stringify(key)}:${sortedJsonText(value)}`).join(',')}}`;
}

/**
 * The text of each member of an object, by name: what may be stored and written again without touching a number.
 * @throws JsonTextError when the text is no JSON object
 */
export function memberTexts(text: string): Map<string, string> {
  const node = parseJsonText(text);
  if (!isJsonObject(node)) throw new JsonTextError('not an object');
  return new Map([...node].map(([key, value]) => [key, writeJsonText(value)]));
}

/** An object written out of the JSON texts of its members. Members that are undefined are left out. */
export function objectText(members: Readonly<Record<string, string | undefined>>): string {
  const written = Object.entries(members).filter(([, text]) => text !== undefined);
  return `{${written.map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(',')}}`;
}

export function isJsonObject(node: JsonNode | undefined): node is JsonObject {
  return node instanceof Map;
}

function tokensOf(text: string): () => Token {
  let at = 0;
  return () => {
    TOKEN.lastIndex = at;
    const found = TOKEN.exec(text);
    if (found === null) throw new JsonTextError('not valid JSON');
    at = TOKEN.lastIndex;
    const [, mark, string, number, word] = found;
    if (mark !== undefined) return { kind: 'mark', mark };
    if (string !== undefined) return { kind: 'value', value: unquote(string) };
    if (number !== undefined) return { kind: 'value', value: new JsonNumber(number) };
    if (word !== undefined) return { kind: 'value', value: WORDS[word] as boolean | null };
    return { kind: 'end' };
  };
}

function unquote(token: string): string {
  try {
    return JSON.parse(token);
  } catch (cause) {
    throw new JsonTextError('a string is not valid JSON', { cause });
  }
}

function parseValue(token: Token, next: () => Token, depth: number): JsonNode {
  if (token.kind === 'value') return token.value;
  if (token.kind === 'end') throw new JsonTextError('the text ends too early');
  if (depth >= MAX_DEPTH) throw new JsonTextError(`nests deeper than ${MAX_DEPTH} levels`);
  if (token.mark === '{') return parseObject(next, depth + 1);
  if (token.mark === '[') return parseArray(next, depth + 1);
  throw new JsonTextError('a value is missing');
}

function parseObject(next: () => Token, depth: number): JsonObject {
  const members = new Map<string, JsonNode>();
  let token = next();
  if (isMark(token, '}')) return members;
  for (;;) {
    if (token.kind !== 'value' || typeof token.value !== 'string')
      throw new JsonTextError('a key is missing');
    if (!isMark(next(), ':')) throw new JsonTextError('a colon is missing');
    members.set(token.value, parseValue(next(), next, depth));
    const after = next();
    if (isMark(after, '}')) return members;
    if (!isMark(after, ',')) throw new JsonTextError('a comma is missing');
    token = next();
  }
}

function parseArray(next: () => Token, depth: number): JsonNode[] {
  const items: JsonNode[] = [];
  let token = next();
  if (isMark(token, ']')) return items;
  for (;;) {
    items.push(parseValue(token, next, depth));
    const after = next();
    if (isMark(after, ']')) return items;
    if (!isMark(after, ',')) throw new JsonTextError('a comma is missing');
    token = next();
  }
}

function isMark(token: Token, mark: string): boolean {
  return token.kind === 'mark' && token.mark === mark;
}
