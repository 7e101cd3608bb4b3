/** Longer ones are taken for an hour: asking once an hour is no load, and a mistake elsewhere silences nobody for days. */
const MAX_RETRY_AFTER_MS = 3_600_000;

/**
 * Retry-After is seconds or a date (RFC 9110, 10.2.3).
 * @returns milliseconds from now, an hour at most; undefined when absent or unreadable
 */
export function readRetryAfter(value: string | null | undefined): number | undefined {
  if (!value) return undefined;
  if (/^\d+$/.test(value)) return Math.min(Number(value) * 1000, MAX_RETRY_AFTER_MS);
  // Date.parse also makes dates of what is none, such as "-1".
  const atMs = /^[A-Z][a-z]{2},? /.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(atMs) ? undefined : Math.min(Math.max(0, atMs - Date.now()), MAX_RETRY_AFTER_MS);
}
