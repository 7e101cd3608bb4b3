import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { parseEnv } from 'node:util';

const NAMES = [
  'COORDINATOR_SHARED_SECRET',
  'ADMIN_API_KEY',
  'API_KEY_PEPPER',
  'CLIENT_API_KEYS',
  'MINER_API_KEYS',
  'ADMIN_API_KEYS',
  'RECEIPT_SIGNING_KEY_HEX',
] as const;

/** The secrets that a start without any setting works with: made once, then read from `file`. */
export async function devSecrets(file: string): Promise<Record<(typeof NAMES)[number], string>> {
  // No file yet: the first start on this folder.
  const text = await readFile(file, 'utf8').catch(() => '');
  const stored = parseEnv(text);
  const secrets = Object.fromEntries(NAMES.map((name) => [name, stored[name] || newSecret(name)])) as Record<
    (typeof NAMES)[number],
    string
  >;
  if (NAMES.some((name) => !stored[name])) await writeEnvFile(file, secrets);
  return secrets;
}

/** The seed of a signing key has its length and form; any other secret is one key, or a list of one. */
function newSecret(name: (typeof NAMES)[number]): string {
  return name === 'RECEIPT_SIGNING_KEY_HEX'
    ? randomBytes(32).toString('hex')
    : randomBytes(24).toString('base64url');
}

/** Writes settings that only the owner can read, for `process.loadEnvFile`. */
export async function writeEnvFile(file: string, values: Record<string, string>): Promise<void> {
  const lines = Object.entries(values).map(([name, value]) => `${name}=${quoted(value)}\n`);
  await mkdir(dirname(file), { recursive: true });
  // Under another name first: a reader never sees half of it.
  await writeFile(`${file}.new`, lines.join(''), { mode: 0o600 });
  await rename(`${file}.new`, file);
}

/** The format knows no escapes, but three kinds of quotes. */
function quoted(value: string): string {
  const quote = ["'", '"', '`'].find((candidate) => !value.includes(candidate)) ?? '';
  return quote + value + quote;
}
