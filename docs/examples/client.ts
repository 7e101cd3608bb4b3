/**
 * A client of the coordinator: submits a job, follows it, and checks its receipt. Beside a running `npm start`, and a miner that can do it
 * (`poolhub miner --work --capability example`):
 *
 *     set -a; . ./.data/run.env; set +a; npx tsx docs/examples/client.ts
 */
import { CoordinatorClient } from '../../src/sdk/coordinator-client.ts';

const { COORDINATOR_URL = '', CLIENT_API_KEY = '' } = process.env;
const client = new CoordinatorClient({ urls: COORDINATOR_URL.split(','), apiKey: CLIENT_API_KEY });

const { job_id } = await client.submit({
  payload: { type: 'sum', values: [1, 2, 3] },
  constraints: { models: ['example'] },
});

// A lost connection is made again and goes on behind the last change; the loop ends with the job, by `break`, or by a signal.
for await (const { revision, job } of client.jobEvents(job_id)) console.log(revision, job.state);

const { result, error } = await client.getResult(job_id);
console.log(result ?? error);

// As text: parsed and written again, a receipt may not verify.
const receipt = await client.receiptText(job_id);
const { valid, problems } = await client.verifyReceipt(receipt);
console.log(valid ? 'the receipt holds' : problems);
