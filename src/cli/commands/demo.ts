import { defineCommand } from '../command.ts';
import { runDemo } from '../demo/demo.ts';
import { HUB_OPTIONS, hubUrls, needCoordinatorSecret } from '../hub-access.ts';
import { numberOption, wholeOption } from '../numbers.ts';

export const demo = defineCommand({
  name: 'demo',
  summary: 'Simulated miners on WebSockets and a coordinator that gives them jobs, with a live summary.',
  options: {
    ...HUB_OPTIONS,
    miners: { type: 'string', value: 'n', default: '200', help: 'how many miners' },
    'match-rate': { type: 'string', value: 'n', default: '20', help: 'matches a second' },
    seed: { type: 'string', value: 'n', default: '1', help: 'the same seed makes the same fleet' },
    json: { type: 'boolean', help: 'print the totals as JSON at the end' },
  },
  notes:
    'Ctrl-C ends it. Needs COORDINATOR_SHARED_SECRET in the environment, and a hub with open enrollment.',
  async run({ values }, terminal) {
    const totals = await runDemo({
      urls: hubUrls(values.url, terminal),
      coordinatorSecret: needCoordinatorSecret(terminal),
      screen: process.stderr,
      signal: terminal.stopSignal(),
      miners: wholeOption('miners', values.miners, { min: 1, max: 5_000 }),
      matchesPerSec: numberOption('match-rate', values['match-rate'], { min: 0.1, max: 10_000 }),
      seed: wholeOption('seed', values.seed, { min: 0, max: 2 ** 31 - 1 }),
    });
    if (values.json) terminal.out(JSON.stringify(totals));
    return 0;
  },
});
