import { createHash } from 'node:crypto';
import { normaliseGpuName } from '../miners/profile.ts';
import type { MatchInput } from './types.ts';

/** One list clause, in the index's terms: any of them, all of them, or none of them. */
interface ListClause {
  name: string;
  kind: 'any' | 'all' | 'none';
  terms: string[];
}

/** A request as the match scripts take it (JSON); sizes in GB, times in ms, prices as numbers. */
export interface CompiledRequest {
  /** 1-based position among the configured strategies. */
  strategy: number;
  k: number;
  /** Where among the slots the job starts reading equal miners, 0..1. */
  start: number;
  price_ref: number;
  max_price?: number;
  deadline_ms?: number;
  min_vram_gb?: number;
  min_ram_gb?: number;
  clauses: ListClause[];
  capabilities: number;
  capability_terms: string[];
  exclude: string[];
}

const unique = (values: readonly string[] | undefined): string[] => [...new Set(values ?? [])];

/** Where a job starts among equal miners, 0 <= start < 1: spread evenly over jobs, and the same for a retry. */
export function startOf(jobId: string): number {
  return createHash('sha256').update(jobId).digest().readUIntBE(0, 6) / 2 ** 48;
}

/**
 * Turns a request into index terms. A list that is empty, and a minimum of 0, ask for nothing. `strategy` is its
 * position among the configured ones, from 0.
 */
export function compileRequest(
  input: MatchInput,
  strategy: number,
  k: number,
  priceRef: number,
): CompiledRequest {
  const { requirements: r, hints } = input;
  const capabilities = unique(r.capabilities_any);
  const lists: [name: string, kind: ListClause['kind'], prefix: string, values: string[]][] = [
    ['accel', 'any', 'accel:', unique(r.accel?.map((name) => name.toLowerCase()))],
    ['capabilities_any', 'any', 'cap:', capabilities],
    ['capabilities_all', 'all', 'cap:', unique(r.capabilities_all)],
    ['tags_any', 'any', 'tag:', unique(r.tags_any)],
    ['tags_all', 'all', 'tag:', unique(r.tags_all)],
    ['tags_none', 'none', 'tag:', unique(r.tags_none)],
    ['gpu_name_any', 'any', 'gpu:', unique(r.gpu_name_any?.map(normaliseGpuName))],
    ['region', 'all', 'region:', hints.region === undefined ? [] : [hints.region.toLowerCase()]],
  ];
  const clauses = lists
    .filter(([, , , values]) => values.length > 0)
    .map(([name, kind, prefix, values]) => ({ name, kind, terms: values.map((value) => prefix + value) }));
  // A miner that declares no task (no tag `task:<t>`) takes any.
  if (r.task !== undefined)
    clauses.push({ name: 'task', kind: 'any', terms: [`task:${r.task}`, 'task-any'] });
  return {
    strategy: strategy + 1,
    k,
    start: startOf(input.job_id),
    price_ref: priceRef,
    ...(hints.max_price === undefined ? {} : { max_price: Number(hints.max_price) }),
    ...(hints.deadline_ms === undefined ? {} : { deadline_ms: hints.deadline_ms }),
    ...(r.min_vram_gb ? { min_vram_gb: r.min_vram_gb } : {}),
    ...(r.min_ram_gb ? { min_ram_gb: r.min_ram_gb } : {}),
    clauses,
    capabilities: capabilities.length,
    capability_terms: capabilities.map((name) => `cap:${name}`),
    exclude: unique(r.exclude_miners),
  };
}
