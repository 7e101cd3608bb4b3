import { randomBytes } from 'node:crypto';

const TIME_BYTES = 6;

/**
 * A new job id: a UUID of version 7 (RFC 9562) without dashes, so 32 hexadecimal digits of which the first 12 are the time in
 * milliseconds. Ids grow with time, and 74 random bits keep them from being guessed.
 */
export function newJobId(nowMs = Date.now()): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(nowMs, 0, TIME_BYTES);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes.toString('hex');
}

/** No id that was made at this time or later is smaller. */
export function firstIdOf(ms: number): string {
  return Math.max(0, Math.floor(ms))
    .toString(16)
    .padStart(2 * TIME_BYTES, '0');
}
