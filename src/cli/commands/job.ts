import { CoordinatorClient } from '../../sdk/coordinator-client.ts';
import { defineCommand, type Terminal } from '../command.ts';
import { COORDINATOR_OPTIONS, coordinatorUrls } from '../coordinator-access.ts';
import { CommandError, UsageError } from '../errors.ts';
import { numberOption } from '../numbers.ts';

const MAX_TTL_SEC = 30 * 86_400;

const NOTES =
  'Needs the key of a client in CLIENT_API_KEY. The changes of the job go to standard error, its result to standard output. Exit code 1 when it does not complete.';

export const jobRun = defineCommand({
  name: 'job run',
  summary: 'Submits a job, follows it until it is over, and prints its result.',
  positionals: ['payload'],
  options: {
    ...COORDINATOR_OPTIONS,
    model: {
      type: 'string',
      multiple: true,
      value: 'name',
      help: 'a model that the miner must have, any of these',
    },
    region: { type: 'string', help: 'where the miner must be' },
    'ttl-sec': { type: 'string', value: 'sec', default: '900', help: 'how long it may take' },
    'idempotency-key': { type: 'string', value: 'key', help: 'a repeat under it follows the first job' },
    receipt: { type: 'boolean', help: 'print the receipt, as it was signed, instead of the result' },
  },
  notes: `${NOTES} The payload is a JSON object, such as '{"type": "sum", "values": [1, 2]}' for a reference miner.`,
  async run({ values, positionals: [payload = ''] }, terminal) {
    const client = openClient(values['coordinator-url'], terminal);
    const { model: models, region } = values;
    const request = {
      payload: payloadOf(payload),
      constraints: {
        ...(models.length === 0 ? {} : { models }),
        ...(region === undefined ? {} : { region }),
      },
      ttl_seconds: numberOption('ttl-sec', values['ttl-sec'], { min: 0.001, max: MAX_TTL_SEC }),
    };
    const key = values['idempotency-key'];
    const { job_id } = await client.submit(request, key === undefined ? {} : { idempotencyKey: key });
    return follow(client, job_id, values.receipt, terminal);
  },
});

export const jobWatch = defineCommand({
  name: 'job watch',
  summary: 'Follows a job until it is over, and prints its result.',
  positionals: ['job_id'],
  options: {
    ...COORDINATOR_OPTIONS,
    receipt: { type: 'boolean', help: 'print the receipt, as it was signed, instead of the result' },
  },
  notes: NOTES,
  async run({ values, positionals: [jobId = ''] }, terminal) {
    return follow(openClient(values['coordinator-url'], terminal), jobId, values.receipt, terminal);
  },
});

function openClient(urls: readonly string[], terminal: Terminal): CoordinatorClient {
  const apiKey = terminal.env.CLIENT_API_KEY;
  if (!apiKey) throw new UsageError('needs CLIENT_API_KEY in the environment');
  return new CoordinatorClient({ urls: coordinatorUrls(urls, terminal), apiKey });
}

function payloadOf(text: string): Record<string, unknown> {
  try {
    const payload: unknown = JSON.parse(text);
    if (typeof payload === 'object' && payload !== null && !Array.isArray(payload))
      return payload as Record<string, unknown>;
  } catch {
    // Told below, as what is JSON and no object.
  }
  throw new UsageError('the payload must be a JSON object');
}

/** @returns the exit code */
async function follow(
  client: CoordinatorClient,
  jobId: string,
  wantsReceipt: boolean,
  terminal: Terminal,
): Promise<number> {
  for await (const { job } of client.jobEvents(jobId)) {
    const by = job.assigned_miner_id === null ? '' : ` by ${job.assigned_miner_id}`;
    const waits = job.state === 'QUEUED' ? ': waits for a miner that fits' : '';
    terminal.note(`${job.job_id} ${job.state}${by}${waits}`);
  }
  const { result, error } = await client.getResult(jobId);
  if (error != null) throw new CommandError(`${error.code}: ${error.message}`);
  terminal.out(wantsReceipt ? await client.receiptText(jobId) : JSON.stringify(result));
  return 0;
}
