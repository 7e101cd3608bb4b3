import { forEachLimited } from '../bulk.ts';
import { defineCommand } from '../command.ts';
import { explainRefusal, FLEET_NOTES, FLEET_OPTIONS, fleetFrom } from '../fleet-options.ts';
import { HUB_OPTIONS, openClient } from '../hub-access.ts';
import { Progress } from '../progress.ts';

const CONCURRENCY = 8;

/** The hub lets few registrations a second through, so most of them wait for their turn several times. */
const MAX_ATTEMPTS = 30;

export const seed = defineCommand({
  name: 'seed',
  summary: 'Registers a made-up fleet: mixed hardware, regions and prices, the same for the same seed.',
  options: { ...HUB_OPTIONS, ...FLEET_OPTIONS, json: { type: 'boolean', help: 'print the totals as JSON' } },
  notes: `The miners do not beat, so they leave when lease and grace are over; \`poolhub simulate\` with the same seed keeps them.\n${FLEET_NOTES}`,
  async run({ values }, terminal) {
    const client = openClient(values.url, terminal, { maxAttempts: MAX_ATTEMPTS });
    const fleet = fleetFrom(values, client);
    const signal = terminal.stopSignal();
    const startedMs = performance.now();
    let registered = 0;
    let created = 0;
    const line = () => `registered ${registered} of ${fleet.miners.length}`;
    const progress = new Progress(process.stderr, { line, screen: () => [line()] });
    try {
      await forEachLimited(fleet.miners, CONCURRENCY, signal, async ({ profile }) => {
        const api_key = await fleet.keyOf(profile.miner_id);
        const answer = await client.register({ ...profile, api_key }, { signal });
        registered += 1;
        if (answer.created) created += 1;
      });
    } catch (error) {
      throw explainRefusal(error, values.enroll);
    } finally {
      progress.stop();
    }
    const totals = {
      miners: fleet.miners.length,
      registered,
      created,
      seed: fleet.seed,
      duration_ms: Math.round(performance.now() - startedMs),
    };
    terminal.out(
      values.json
        ? JSON.stringify(totals)
        : `Registered ${registered} miners, ${created} of them new, in ${totals.duration_ms} ms.`,
    );
    return registered === fleet.miners.length ? 0 : 1;
  },
});
