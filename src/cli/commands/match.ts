import { randomUUID } from 'node:crypto';
import type { Candidate, ExplainAnswer, ExplainRequest, MatchAnswer, MatchRequest } from '../../sdk/types.ts';
import { defineCommand } from '../command.ts';
import { HUB_OPTIONS, needCoordinatorSecret, openClient } from '../hub-access.ts';
import { numberOption, wholeOption } from '../numbers.ts';
import { formatTable } from '../table.ts';

const MAX_GB = 1_048_576;
const DAY_MS = 86_400_000;
const MAX_TOP = 100;
const DEFAULT_RESERVE_MS = '30000';

const many = (help: string) => ({ type: 'string', multiple: true, value: 'text', help }) as const;

const OPTIONS = {
  ...HUB_OPTIONS,
  'job-id': { type: 'string', value: 'id', help: 'the job; a new one when left out' },
  task: { type: 'string', help: 'what the job is' },
  'min-vram-gb': { type: 'string', value: 'gb', help: 'memory of the GPU' },
  'min-ram-gb': { type: 'string', value: 'gb', help: 'memory of the machine' },
  accel: many('cuda, rocm, metal, ...: any of them'),
  capability: many('any of them'),
  'capability-all': many('all of them'),
  tag: many('any of them'),
  'tag-all': many('all of them'),
  'tag-none': many('none of them'),
  gpu: many('name of the GPU: any of them'),
  exclude: many('miner that is not wanted'),
  region: { type: 'string', help: 'exact, or a prefix: eu takes eu-west-1' },
  'max-price': { type: 'string', value: 'price', help: 'tokens per 1,000 s' },
  'deadline-ms': { type: 'string', value: 'ms', help: 'latest eta' },
  strategy: { type: 'string', value: 'name', help: 'balanced, cheapest, fastest, trusted, ...' },
  'top-k': { type: 'string', value: 'n', default: '3', help: 'candidates at most' },
  reserve: { type: 'string', value: 'n', help: 'hold places on so many of them' },
  'ttl-ms': { type: 'string', value: 'ms', default: DEFAULT_RESERVE_MS, help: 'how long places are held' },
  explain: { type: 'boolean', help: 'count the miners clause by clause instead' },
  why: { type: 'string', value: 'miner_id', help: 'say of one miner every clause it fails' },
  json: { type: 'boolean', help: 'print the answer as JSON' },
} as const;

export const match = defineCommand({
  name: 'match',
  summary: 'Asks for the best miners for a job and prints them with the reasons, or why there is none.',
  options: OPTIONS,
  notes: 'Needs COORDINATOR_SHARED_SECRET in the environment.',
  async run({ values }, terminal) {
    const request = requestOf(values);
    needCoordinatorSecret(terminal);
    const client = openClient(values.url, terminal);
    if (values.explain || values.why !== undefined) {
      const miner = values.why === undefined ? {} : { miner_id: values.why };
      const answer = await client.explain({ ...request, ...miner } satisfies ExplainRequest);
      terminal.out(values.json ? JSON.stringify(answer) : explainText(answer));
    } else {
      const answer = await client.match(request);
      terminal.out(values.json ? JSON.stringify(answer) : matchText(answer));
    }
    return 0;
  },
});

type Given = { readonly [K in keyof typeof OPTIONS]: unknown };

/** @throws UsageError; the hub itself checks the rest */
function requestOf(values: Given): MatchRequest {
  const text = (name: keyof Given) => values[name] as string | undefined;
  const list = (name: keyof Given) => {
    const items = values[name] as string[];
    return items.length > 0 ? items : undefined;
  };
  const whole = (name: keyof Given, min: number, max: number) => {
    const given = text(name);
    return given === undefined ? undefined : wholeOption(name, given, { min, max });
  };
  const gb = (name: keyof Given) => {
    const given = text(name);
    return given === undefined ? undefined : numberOption(name, given, { min: 0, max: MAX_GB });
  };
  const count = whole('reserve', 1, MAX_TOP);
  const ttl_ms = whole('ttl-ms', 1, DAY_MS);
  return {
    job_id: text('job-id') ?? randomUUID(),
    requirements: {
      task: text('task'),
      min_vram_gb: gb('min-vram-gb'),
      min_ram_gb: gb('min-ram-gb'),
      accel: list('accel'),
      capabilities_any: list('capability'),
      capabilities_all: list('capability-all'),
      tags_any: list('tag'),
      tags_all: list('tag-all'),
      tags_none: list('tag-none'),
      gpu_name_any: list('gpu'),
      exclude_miners: list('exclude'),
    },
    hints: {
      region: text('region'),
      max_price: text('max-price'),
      deadline_ms: whole('deadline-ms', 0, DAY_MS),
      strategy: text('strategy'),
    },
    top_k: whole('top-k', 1, MAX_TOP) ?? 1,
    ...(count === undefined || ttl_ms === undefined ? {} : { reserve: { count, ttl_ms } }),
  };
}

function matchText({ candidates, explain, feasible, strategy, truncated }: MatchAnswer): string {
  if (candidates.length === 0) return `No candidate: ${explain}`;
  const rows = candidates.map((candidate, n) => rowOf(candidate, n + 1));
  const reserved = candidates.some(({ reservation_id }) => reservation_id !== undefined);
  const headings = ['', 'MINER', 'STATE', 'SCORE', 'ETA MS', 'PRICE', 'ADDRESS', 'WHY'];
  const table = formatTable(
    reserved ? [...headings, 'RESERVATION'] : headings,
    reserved ? rows.map((row, n) => [...row, candidates[n]?.reservation_id ?? '-']) : rows,
  );
  const cut = truncated ? '; the search was cut short' : '';
  return `${table}\n${candidates.length} of ${feasible} that match, by the strategy ${strategy}${cut}`;
}

function rowOf(candidate: Candidate, rank: number): (string | number)[] {
  const { miner_id, state, score, eta_ms, price, proto, addr, explain } = candidate;
  return [rank, miner_id, state, score.toFixed(4), eta_ms ?? '-', price, `${proto}://${addr}`, explain];
}

function explainText(answer: ExplainAnswer): string {
  const { registered, online, degraded, available, matchable, feasible, clauses, miner } = answer;
  const lines = [
    `registered ${registered} · online ${online} · degraded ${degraded} · available ${available} · ` +
      `matchable ${matchable} · feasible ${feasible}`,
  ];
  if (clauses.length > 0) {
    lines.push(
      formatTable(
        ['CLAUSE', 'HAVE IT', 'MATCH WITHOUT IT'],
        clauses.map(({ clause, have, if_dropped }) => [clause, have, if_dropped]),
      ),
    );
  }
  lines.push(answer.explain);
  if (miner !== undefined) {
    const fails = miner.fails.length === 0 ? 'matches' : `fails ${miner.fails.join(', ')}`;
    lines.push(`${miner.miner_id} ${fails}`);
  }
  return lines.join('\n');
}
