import type { Terminal } from '../../src/cli/command.ts';
import type { JobWorker } from '../../src/cli/job-runner/job-worker.ts';
import { openWorker } from '../../src/cli/job-runner/open-worker.ts';
import { ReferenceMiner } from '../../src/cli/reference-miner.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { profileOf } from '../sdk/profiles.ts';
import type { Harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';

/** Miners as `poolhub miner --work` runs them, many in this process. */
export interface WorkingFleet {
  /** How often each event was told. */
  readonly events: ReadonlyMap<string, number>;
}

/** Starts `count` miners that can do `model`, and waits until both hub and coordinator have them. */
export async function startFleet(
  h: Harness,
  {
    hubUrl,
    coordinatorUrl,
    count,
    model,
  }: { hubUrl: string; coordinatorUrl: string; count: number; model: string },
): Promise<WorkingFleet> {
  const events = new Map<string, number>();
  const say = (event: string) => void events.set(event, (events.get(event) ?? 0) + 1);
  const terminal: Terminal = {
    env: { COORDINATOR_MINER_KEY: 'key-of-any-miner' },
    out: () => {},
    note: () => {},
    stopSignal: () => new AbortController().signal,
  };
  const fleet: Array<{ reference: ReferenceMiner; worker: JobWorker; ends: Promise<unknown> }> = [];
  for (let index = 0; index < count; index += 1) {
    const profile = profileOf(`${model}-${index}`, { capabilities: [model], max_parallel: 2 });
    const client = new HubClient({ urls: [hubUrl] });
    const reference = new ReferenceMiner({ client, profile, transport: 'ws' });
    reference.session.on('registered', () => say('hub_registered'));
    const worker = openWorker(reference, profile, [coordinatorUrl], terminal, say);
    fleet.push({ reference, worker, ends: Promise.all([reference.session.run(), worker.run()]) });
  }
  h.cleanup(async () => {
    for (const { reference, worker } of fleet) {
      worker.leave();
      worker.breakOff();
      reference.session.stop();
    }
    await Promise.all(fleet.map(({ ends }) => ends));
  });
  for (const event of ['hub_registered', 'coordinator_registered']) {
    await waitFor(() => events.get(event) === count, { timeoutMs: 60_000, what: event });
  }
  return { events };
}
