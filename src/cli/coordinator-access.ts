import type { Terminal } from './command.ts';
import { UsageError } from './errors.ts';

const DEFAULT_URL = 'http://127.0.0.1:8011';

/** The option of every command that calls the coordinator. */
export const COORDINATOR_OPTIONS = {
  'coordinator-url': {
    type: 'string',
    multiple: true,
    value: 'url',
    help: `base URL of the coordinator, or of one replica (COORDINATOR_URL, else ${DEFAULT_URL})`,
  },
} as const;

/** Where the coordinator is. @throws UsageError for something that is no URL */
export function coordinatorUrls(given: readonly string[], { env }: Terminal): readonly string[] {
  const urls = given.length > 0 ? given : [env.COORDINATOR_URL || DEFAULT_URL];
  if (urls.every((url) => /^https?:\/\//.test(url) && URL.canParse(url))) return urls;
  throw new UsageError(`--coordinator-url must be like ${DEFAULT_URL}`);
}
