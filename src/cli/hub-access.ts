import { HubClient } from '../sdk/hub-client.ts';
import type { TransportOptions } from '../sdk/transport.ts';
import type { Terminal } from './command.ts';
import { UsageError } from './errors.ts';

/** The option of every command that calls the hub. */
export const HUB_OPTIONS = {
  url: {
    type: 'string',
    multiple: true,
    value: 'url',
    help: 'base URL of the hub, or of one replica (POOLHUB_URL, else POOLHUB_BIND and POOLHUB_PORT)',
  },
} as const;

const DEFAULT_BIND = '127.0.0.1';
const DEFAULT_PORT = '8203';

/** Where the hub is. @throws UsageError for something that is no URL */
export function hubUrls(given: readonly string[], { env }: Terminal): string[] {
  const urls = given.length > 0 ? given : [env.POOLHUB_URL || addressOf(env)];
  return urls.map(checkedUrl);
}

/**
 * A client with the secrets of the environment. They are never options, because every user of a machine can read the
 * arguments of a process.
 * @throws UsageError for something that is no URL
 */
export function openClient(
  urls: readonly string[],
  terminal: Terminal,
  options: Omit<TransportOptions, 'urls'> = {},
): HubClient {
  return new HubClient({
    ...options,
    urls: hubUrls(urls, terminal),
    coordinatorSecret: firstOf(terminal.env.COORDINATOR_SHARED_SECRET),
    adminKey: firstOf(terminal.env.ADMIN_API_KEY),
  });
}

/** The secret with which a coordinator calls. @throws UsageError when the environment has none */
export function needCoordinatorSecret({ env }: Terminal): string {
  const secret = firstOf(env.COORDINATOR_SHARED_SECRET);
  if (secret === undefined) throw new UsageError('needs COORDINATOR_SHARED_SECRET in the environment');
  return secret;
}

function addressOf(env: NodeJS.ProcessEnv): string {
  const bind = env.POOLHUB_BIND || DEFAULT_BIND;
  // What listens on every address is reached on this machine by its own.
  const host = bind === '0.0.0.0' ? DEFAULT_BIND : bind === '::' ? '::1' : bind;
  return `http://${host.includes(':') ? `[${host}]` : host}:${env.POOLHUB_PORT || DEFAULT_PORT}`;
}

function checkedUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return text;
  throw new UsageError(`--url must be like http://127.0.0.1:${DEFAULT_PORT}`);
}

/** While secrets are rotated a setting lists several; the newest comes first. */
function firstOf(list: string | undefined): string | undefined {
  return list?.split(',')[0]?.trim() || undefined;
}
