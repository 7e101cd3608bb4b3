/** Where hub and coordinator listen, and what is shown to them; `'$NAME'`-style text stands for a secret of the user's own. */
export interface FirstCalls {
  hubUrl: string;
  coordinatorUrl: string;
  /** By which a coordinator calls the hub. */
  coordinatorSecret: string;
  /** By which a client calls the coordinator. */
  clientKey: string;
}

const MINER = {
  miner_id: 'first-miner',
  api_key: 'first-miner-key',
  addr: '127.0.0.1:9000',
  proto: 'grpc',
  gpu_name: 'NVIDIA RTX 4090',
  gpu_vram: 24,
  gpu_count: 1,
  cpu_cores: 16,
  ram_gb: 64,
  price_token_per_ksec: '0.5',
  max_parallel: 2,
  region: 'eu-west',
  tags: ['low-latency'],
  capabilities: ['sentence-transformers/all-MiniLM-L6-v2'],
};
const MATCH = {
  job_id: 'first-job',
  requirements: { min_vram_gb: 8, accel: ['cuda'], capabilities_any: MINER.capabilities },
  hints: { region: 'eu' },
};
const FEEDBACK = { job_id: MATCH.job_id, miner_id: MINER.miner_id, outcome: 'completed', latency_ms: 420 };

const JOB = { payload: { type: 'sum', values: [1, 2, 3] } };

/** One command per main call, to be pasted into a shell in this order. */
export function firstCalls({ hubUrl, coordinatorUrl, coordinatorSecret, clientKey }: FirstCalls): string {
  const post = (url: string, headers: string[], payload: unknown) =>
    [
      `curl -sw "\\n" ${url}`,
      ...['Content-Type: application/json', ...headers].map((header) => `-H "${header}"`),
      `-d '${JSON.stringify(payload)}'`,
    ].join(' ');
  const coordinator = `X-Coordinator-Secret: ${coordinatorSecret}`;
  const client = `X-Api-Key: ${clientKey}`;
  const member = (name: string) => `node -pe 'JSON.parse(require("fs").readFileSync(0)).${name}'`;
  return [
    '# A miner registers and keeps its session token',
    `TOKEN=$(${post(`${hubUrl}/v1/miners/register`, [], MINER)} | ${member('session_token')})`,
    '# It beats',
    post(`${hubUrl}/v1/miners/heartbeat`, ['Authorization: Bearer $TOKEN'], {
      queue_len: 0,
      avg_latency_ms: 40,
    }),
    '# A coordinator asks for the best miners',
    post(`${hubUrl}/v1/match`, [coordinator], MATCH),
    '# It says how the job went, and the trust in the miner moves',
    post(`${hubUrl}/v1/feedback`, [coordinator], FEEDBACK),
    '# A client of the coordinator submits a job (in another terminal, a miner for it: MINER_API_KEY=mine npm run poolhub -- miner --work --id mine)',
    `JOB=$(${post(`${coordinatorUrl}/v1/jobs`, [client], JOB)} | ${member('job_id')})`,
    '# The result, once the job is over',
    `curl -sw "\\n" ${coordinatorUrl}/v1/jobs/$JOB/result -H "${client}"`,
  ].join('\n');
}
