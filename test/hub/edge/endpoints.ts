import { ADMIN, COORDINATOR, PROFILE } from './app.ts';

export type Who = 'coordinator' | 'admin' | 'either' | 'miner' | 'anybody';

/** One call of the API with everything in order, so that a test can spoil one thing at a time. */
export interface Endpoint {
  readonly method: string;
  readonly path: string;
  readonly who: Who;
  /** A body that is accepted; undefined for a call without one. */
  readonly body?: Record<string, unknown>;
  /** The path as OpenAPI writes it, where it has parameters. */
  readonly pattern?: string;
}

export const MINER = 'miner-of-the-table';
const at = `/v1/miners/${MINER}`;
const requirements = { min_vram_gb: 8, accel: ['cuda'], capabilities_any: ['stable-diffusion'] };

/** Calls that stand under two paths. */
const levels = (prefix: string): Endpoint[] => [
  { method: 'GET', path: `${prefix}/metrics/${MINER}`, pattern: `${prefix}/metrics/{id}`, who: 'either' },
  { method: 'GET', path: `${prefix}/metrics`, who: 'either' },
  { method: 'POST', path: `${prefix}/metrics/collect`, who: 'either' },
  { method: 'GET', path: `${prefix}/violations`, who: 'either' },
  { method: 'GET', path: `${prefix}/status`, who: 'either' },
  { method: 'GET', path: `${prefix}/capacity/snapshots`, who: 'either' },
  { method: 'GET', path: `${prefix}/capacity/forecast`, who: 'either' },
  { method: 'GET', path: `${prefix}/capacity/recommendations`, who: 'either' },
  {
    method: 'POST',
    path: `${prefix}/capacity/alerts/configure`,
    who: 'either',
    body: { threshold_pct: 90, webhooks: [] },
  },
];

const billing = (prefix: string): Endpoint[] => [
  { method: 'GET', path: `${prefix}/usage`, who: 'either' },
  { method: 'GET', path: `${prefix}/failures`, who: 'either' },
  {
    method: 'POST',
    path: `${prefix}/usage/record`,
    who: 'either',
    body: { tenant_id: 'tenant-1', resource_type: 'gpu_hours', quantity: '1.25' },
  },
  { method: 'POST', path: `${prefix}/sync`, who: 'either', body: { hours_back: 1 } },
  {
    method: 'POST',
    path: `${prefix}/invoice/generate`,
    who: 'either',
    body: {
      tenant_id: 'tenant-1',
      period_start: '2026-01-01T00:00:00Z',
      period_end: '2026-02-01T00:00:00Z',
    },
  },
];

/** Every call but those that watchers make; a test holds it against /openapi.json. */
export const ENDPOINTS: readonly Endpoint[] = [
  { method: 'POST', path: '/v1/miners/register', who: 'anybody', body: { ...PROFILE, miner_id: MINER } },
  { method: 'POST', path: '/v1/miners/heartbeat', who: 'miner', body: { ts: 1, queue_len: 0, busy: false } },
  { method: 'POST', path: '/v1/miners/update', who: 'miner', body: { queue_len: 0, tags: ['eu-west'] } },
  { method: 'GET', path: '/v1/miners/lease/renew', who: 'miner' },
  { method: 'POST', path: '/v1/miners/logout', who: 'miner', body: {} },
  {
    method: 'POST',
    path: '/v1/match',
    who: 'coordinator',
    body: { job_id: 'job-1', requirements, hints: { region: 'eu' } },
  },
  { method: 'POST', path: '/v1/match/explain', who: 'coordinator', body: { job_id: 'job-1', requirements } },
  {
    method: 'POST',
    path: '/v1/reservations/0.none/confirm',
    pattern: '/v1/reservations/{id}/confirm',
    who: 'coordinator',
  },
  {
    method: 'POST',
    path: '/v1/reservations/0.none/release',
    pattern: '/v1/reservations/{id}/release',
    who: 'coordinator',
  },
  {
    method: 'POST',
    path: '/v1/feedback',
    who: 'coordinator',
    body: { job_id: 'job-1', miner_id: MINER, outcome: 'completed', latency_ms: 5 },
  },
  { method: 'GET', path: '/v1/miners', who: 'admin' },
  { method: 'GET', path: at, pattern: '/v1/miners/{id}', who: 'admin' },
  { method: 'DELETE', path: at, pattern: '/v1/miners/{id}', who: 'admin' },
  { method: 'POST', path: `${at}/keys`, pattern: '/v1/miners/{id}/keys', who: 'admin' },
  {
    method: 'POST',
    path: `${at}/commands`,
    pattern: '/v1/miners/{id}/commands',
    who: 'admin',
    body: { name: 'custom', args: { a: 1 } },
  },
  { method: 'POST', path: `${at}/drain`, pattern: '/v1/miners/{id}/drain', who: 'admin' },
  { method: 'POST', path: `${at}/resume`, pattern: '/v1/miners/{id}/resume', who: 'admin' },
  {
    method: 'PUT',
    path: `${at}/price-override`,
    pattern: '/v1/miners/{id}/price-override',
    who: 'admin',
    body: { price: '0.2' },
  },
  { method: 'DELETE', path: `${at}/price-override`, pattern: '/v1/miners/{id}/price-override', who: 'admin' },
  ...levels('/sla'),
  ...levels('/v1/sla'),
  ...billing('/sla/billing'),
  ...billing('/v1/sla/billing'),
];

/** Paths that anybody may ask, without a body. */
export const WATCHED = ['/v1/health', '/health', '/livez', '/readyz', '/v1/metrics', '/metrics'];

/** What proves the caller of an endpoint. */
export function credentialsOf(who: Who, sessionToken: string): Record<string, string> {
  if (who === 'coordinator' || who === 'either') return COORDINATOR;
  if (who === 'admin') return ADMIN;
  return who === 'miner' ? { Authorization: `Bearer ${sessionToken}` } : {};
}
