import { readFile, stat } from 'node:fs/promises';
import { keyHex } from '../../coordinator/receipts/ed25519.ts';
import {
  isJsonObject,
  type JsonNode,
  type JsonObject,
  JsonTextError,
  parseJsonText,
} from '../../coordinator/receipts/json-text.ts';
import { type CheckedReceipt, checkReceiptObject } from '../../coordinator/receipts/verify.ts';
import { defineCommand, type Terminal } from '../command.ts';
import { CommandError, UsageError } from '../errors.ts';

const TIMEOUT_MS = 10_000;
const MAX_BYTES = 64 * 1024 * 1024;

export const receiptsVerify = defineCommand({
  name: 'receipts verify',
  summary:
    'Checks the signatures of receipts: of one, of the answer to a job result, or of a page of history.',
  positionals: ['file|url'],
  options: {
    key: {
      type: 'string',
      multiple: true,
      value: 'key',
      help: 'public key that is trusted, in base64url or hexadecimal',
    },
    keys: {
      type: 'string',
      value: 'url',
      help: 'trusted keys as the coordinator lists them, e.g. http://127.0.0.1:8011/v1/receipts/keys',
    },
    'api-key-env': {
      type: 'string',
      value: 'name',
      help: 'environment variable with the key to fetch the receipt with',
    },
    json: { type: 'boolean', help: 'print one JSON object per receipt' },
  },
  notes:
    '- reads standard input. Without --key and --keys any key will do: then the signatures say that nothing was changed, not who signed.\nExit code 1 when a receipt does not hold.',
  async run({ values, positionals: [from = ''] }, terminal) {
    const trusted = await trustedKeys(values.key, values.keys);
    const receipts = receiptsIn(await readText(from, apiKey(values['api-key-env'], terminal)));
    const checked = receipts.map((receipt) =>
      checkReceiptObject(receipt, (keyId) => trusted === undefined || trusted.has(keyId)),
    );
    for (const one of checked) terminal.out(values.json ? JSON.stringify(one) : describe(one));
    if (trusted === undefined) terminal.note('No --key and no --keys: whose keys these are was not checked.');
    return checked.every(({ valid }) => valid) ? 0 : 1;
  },
});

/** @returns undefined when nobody said whom to trust */
async function trustedKeys(
  keys: readonly string[],
  url: string | undefined,
): Promise<ReadonlySet<string> | undefined> {
  if (keys.length === 0 && url === undefined) return undefined;
  const listed = url === undefined ? [] : keysIn(await fetchText(checkedUrl(url), undefined));
  return new Set([...keys.map(keyIdOf), ...listed]);
}

function keyIdOf(key: string): string {
  const keyId = /^[0-9a-f]{64}$/i.test(key) ? Buffer.from(key, 'hex').toString('base64url') : key;
  if (keyHex(keyId) === undefined) throw new UsageError('--key must be 32 bytes in base64url or hexadecimal');
  return keyId;
}

function keysIn(text: string): string[] {
  const node = parse(text, 'the list of keys');
  const keys = isJsonObject(node) ? node.get('keys') : undefined;
  if (!Array.isArray(keys)) throw new CommandError('--keys: the answer lists no keys');
  return keys.flatMap((key: JsonNode) => {
    const id = isJsonObject(key) ? key.get('key_id') : undefined;
    return typeof id === 'string' ? [id] : [];
  });
}

/** A receipt itself, the `receipt` of a result, or the `items` of a page. */
function receiptsIn(text: string): JsonObject[] {
  const node = parse(text, 'the input');
  const member = (name: string) => (isJsonObject(node) ? node.get(name) : undefined);
  const items = Array.isArray(node) ? node : (member('items') ?? [member('receipt') ?? node]);
  if (Array.isArray(items) && items.length > 0 && items.every(isJsonObject)) return items;
  throw new CommandError('there is no receipt in the input');
}

function parse(text: string, what: string): JsonNode {
  try {
    return parseJsonText(text);
  } catch (error) {
    if (error instanceof JsonTextError) throw new CommandError(`${what} is not JSON: ${error.message}`);
    throw error;
  }
}

async function readText(from: string, key: string | undefined): Promise<string> {
  if (/^https?:\/\//.test(from)) return fetchText(checkedUrl(from), key);
  if (key !== undefined) throw new UsageError('--api-key-env is for a URL');
  if (from === '-') return readStream(process.stdin);
  try {
    const { size } = await stat(from);
    if (size > MAX_BYTES) throw tooLarge();
    return await readFile(from, 'utf8');
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(`${from} cannot be read: ${(error as NodeJS.ErrnoException).code ?? error}`);
  }
}

/** The key goes where the user has pointed, and to nobody that answers with a redirect. */
async function fetchText(url: URL, key: string | undefined): Promise<string> {
  try {
    const response = await fetch(url, {
      headers: key === undefined ? {} : { 'X-Api-Key': key },
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) throw new CommandError(`${url.host} answers ${response.status}`);
    return await readStream(response.body ?? []);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new CommandError(`${url.host} cannot be asked: ${cause instanceof Error ? cause.message : cause}`);
  }
}

async function readStream(stream: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    bytes += chunk.byteLength;
    if (bytes > MAX_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function tooLarge(): CommandError {
  return new CommandError(`the input has more than ${MAX_BYTES} bytes`);
}

function checkedUrl(text: string): URL {
  if (!/^https?:\/\//.test(text) || !URL.canParse(text)) throw new UsageError(`"${text}" is no http URL`);
  return new URL(text);
}

/** The key itself is never an argument, because every user of a machine can read those of a process. */
function apiKey(name: string | undefined, { env }: Terminal): string | undefined {
  if (name === undefined) return undefined;
  const key = env[name];
  if (!key) throw new UsageError(`the environment has no ${name}`);
  return key;
}

function describe({ valid, receipt_id, job_id, signature, attestations, problems }: CheckedReceipt): string {
  const lines = [
    `${valid ? 'valid' : 'NOT VALID'}: receipt ${receipt_id ?? '(none)'} of job ${job_id ?? '(none)'}`,
    `  signed by ${signature.key_id ?? '(nobody)'}`,
    ...attestations.map(({ key_id }) => `  attested by ${key_id ?? '(nobody)'}`),
    ...problems.map((problem) => `  ${problem}`),
  ];
  return lines.join('\n');
}
