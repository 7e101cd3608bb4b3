import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../../sdk/errors.ts';
import type { SessionEnd } from '../../sdk/miner-session.ts';
import type { RegisterRequest } from '../../sdk/types.ts';
import { defineCommand, type Terminal } from '../command.ts';
import { COORDINATOR_OPTIONS } from '../coordinator-access.ts';
import { CommandError, UsageError } from '../errors.ts';
import { HUB_OPTIONS, openClient } from '../hub-access.ts';
import type { JobWorker } from '../job-runner/job-worker.ts';
import { openWorker } from '../job-runner/open-worker.ts';
import { numberOption, wholeOption } from '../numbers.ts';
import { ReferenceMiner } from '../reference-miner.ts';

const MAX_GB = 1_048_576;
const DRAIN_POLL_MS = 100;

const OPTIONS = {
  ...HUB_OPTIONS,
  id: { type: 'string', value: 'miner_id', help: 'the miner; needed' },
  addr: { type: 'string', value: 'host:port', default: '127.0.0.1:9000', help: 'where jobs are sent' },
  proto: { type: 'string', default: 'grpc', help: 'how jobs are sent' },
  'gpu-name': { type: 'string', value: 'name', default: '', help: 'name of the GPU' },
  'gpu-vram-gb': { type: 'string', value: 'gb', help: 'its memory' },
  'ram-gb': { type: 'string', value: 'gb', help: 'memory of the machine' },
  price: { type: 'string', default: '0.5', help: 'tokens per 1,000 s' },
  'max-parallel': { type: 'string', value: 'n', default: '1', help: 'jobs at a time' },
  region: { type: 'string', help: 'where it is' },
  tag: { type: 'string', multiple: true, value: 'text', help: 'a tag' },
  capability: { type: 'string', multiple: true, value: 'text', help: 'a model or task it can do' },
  transport: { type: 'string', value: 'kind', default: 'ws', help: 'ws or http' },
  work: { type: 'boolean', help: 'also take jobs from the coordinator and do them' },
  ...COORDINATOR_OPTIONS,
  'drain-sec': { type: 'string', value: 'sec', default: '30', help: 'how long running jobs are waited for' },
  json: { type: 'boolean', help: 'print events as JSON, one per line' },
} as const;

type Say = (event: string, fields?: Record<string, unknown>) => void;

export const miner = defineCommand({
  name: 'miner',
  summary:
    'A reference miner: registers, beats, obeys the commands of the hub, reconnects with backoff and jitter.',
  options: OPTIONS,
  notes: `Needs MINER_API_KEY in the environment, and for --work the key for the coordinator in COORDINATOR_MINER_KEY, unless it is the same. Ctrl-C or
SIGTERM: it takes no new jobs, finishes those it has, and logs out. With --work it does jobs whose payload has one of these types: echo, sum
(values), sleep (ms), sha256 (data), fail (error_code, error_message).`,
  async run({ values }, terminal) {
    const { transport } = values;
    if (transport !== 'ws' && transport !== 'http') throw new UsageError('--transport must be ws or http');
    const drainSec = numberOption('drain-sec', values['drain-sec'], { min: 0, max: 86_400 });
    const profile = profileOf(values, terminal);
    const reference = new ReferenceMiner({ client: openClient(values.url, terminal), profile, transport });
    const signal = terminal.stopSignal();
    const say = sayOn(terminal, values.json);
    report(reference, say);
    const worker = values.work
      ? openWorker(reference, profile, values['coordinator-url'], terminal, say)
      : undefined;
    const leave = () => void drainAndStop(reference, worker, drainSec * 1000, say);
    signal.addEventListener('abort', leave, { once: true });
    const end = await runBoth(reference, worker);
    if (end === 'replaced') throw new CommandError('another registration of this miner took over');
    if (reference.session.isRegistered) await logout(reference, say);
    return 0;
  },
});

function profileOf(
  values: { readonly [K in keyof typeof OPTIONS]: unknown },
  { env }: Terminal,
): RegisterRequest {
  const text = (name: keyof typeof OPTIONS) => values[name] as string;
  const gb = (name: keyof typeof OPTIONS) =>
    values[name] === undefined ? undefined : numberOption(name, text(name), { min: 0, max: MAX_GB });
  if (values.id === undefined) throw new UsageError('needs --id');
  if (!env.MINER_API_KEY) throw new UsageError('needs MINER_API_KEY in the environment');
  return {
    miner_id: text('id'),
    api_key: env.MINER_API_KEY,
    addr: text('addr'),
    proto: text('proto'),
    gpu_name: text('gpu-name'),
    gpu_vram: gb('gpu-vram-gb'),
    ram_gb: gb('ram-gb'),
    price_token_per_ksec: text('price'),
    max_parallel: wholeOption('max-parallel', text('max-parallel'), { min: 1, max: 1024 }),
    region: values.region === undefined ? undefined : text('region'),
    tags: values.tag as string[],
    capabilities: values.capability as string[],
  };
}

function sayOn(terminal: Terminal, json: boolean): Say {
  return (event, fields = {}) => {
    const at = new Date().toISOString();
    if (json) terminal.out(JSON.stringify({ at, event, ...fields }));
    else {
      const details = Object.entries(fields).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
      terminal.out(`${at} ${event}${details.join('')}`);
    }
  };
}

/** Says what happens; never the token. Heartbeats are too many to be news: only the first after a (re)connection is. */
function report({ session }: ReferenceMiner, say: Say): void {
  let connected = false;
  session.on('registered', ({ miner_id, created, next_heartbeat_sec }) =>
    say('registered', { miner_id, created, next_heartbeat_sec }),
  );
  session.on('beat', (latencyMs) => {
    if (!connected) say('connected', { latency_ms: Math.round(latencyMs * 10) / 10 });
    connected = true;
  });
  session.on('interrupted', (error, retryInMs) => {
    connected = false;
    say('interrupted', { reason: error.message, retry_in_ms: Math.round(retryInMs) });
  });
  session.on('command', ({ id, name, args }) => say('command', { id, name, args }));
  session.on('command_failed', ({ id, name }, error) =>
    say('command_failed', { id, name, reason: error instanceof Error ? error.message : String(error) }),
  );
}

/** Runs the session with the hub and the work for the coordinator until both are over. @throws what either throws, after ending the other */
async function runBoth(reference: ReferenceMiner, worker: JobWorker | undefined): Promise<SessionEnd> {
  const session = reference.session.run().finally(() => worker?.leave());
  const work = worker?.run().finally(() => reference.session.stop());
  const [end, worked] = await Promise.allSettled([session, work]);
  if (end.status === 'rejected') throw end.reason;
  if (worked.status === 'rejected') throw worked.reason;
  return end.value;
}

async function drainAndStop(
  reference: ReferenceMiner,
  worker: JobWorker | undefined,
  budgetMs: number,
  say: Say,
): Promise<void> {
  const deadlineMs = performance.now() + budgetMs;
  worker?.leave();
  try {
    if (!reference.session.isRegistered) return;
    await reference.drain();
    say('draining', { jobs: reference.jobs });
    while (reference.jobs > 0 && performance.now() < deadlineMs) await sleep(DRAIN_POLL_MS);
  } catch (error) {
    // The hub is away: the lease runs out by itself.
    if (!(error instanceof HubError)) throw error;
    say('drain_failed', { reason: error.message });
  } finally {
    worker?.breakOff();
    reference.session.stop();
  }
}

async function logout(reference: ReferenceMiner, say: Say): Promise<void> {
  try {
    await reference.session.logout();
    say('logged_out');
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    say('logout_failed', { reason: error.message });
  }
}
