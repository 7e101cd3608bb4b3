import type { Harness } from '../support/harness.ts';
import type { TestProcess } from '../support/processes.ts';

export interface HubProcess {
  readonly url: string;
  readonly port: string;
  readonly process: TestProcess;
}

/** Limits out of the way of tests that are not about them, and a stop without the pause for load balancers. */
const TEST_SETTINGS = {
  LOG_LEVEL: 'info',
  MINER_ENROLLMENT: 'open',
  RATE_LIMIT_REGISTER_PER_SEC: '1000',
  RATE_LIMIT_MATCH_PER_SEC: '1000',
  RATE_LIMIT_DEFAULT_PER_SEC: '10000',
  RATE_LIMIT_HEARTBEAT_PER_SEC: '100',
  SHUTDOWN_DRAIN_MS: '0',
};

/** Starts a hub as a process of its own on the stores of the file. */
export async function startHubProcess(
  h: Harness,
  overrides: Record<string, string> = {},
): Promise<HubProcess> {
  const env = await h.env({ ...TEST_SETTINGS, ...overrides });
  const started = await h.startProcess('src/bin/hub.ts', { env, ready: /"url":"(http:[^"]+)"/ });
  const url = started.ready[1] as string;
  return { url, port: new URL(url).port, process: started };
}
