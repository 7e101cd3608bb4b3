import * as v from 'valibot';
import { AppError, type ErrorEnvelope, envelope, invalid } from '../../platform/errors.ts';
import { parseJson } from '../../platform/validation.ts';
import { type HeartbeatPayload, leaseFields } from './heartbeat.ts';
import { HeartbeatFrame } from './schema.ts';
import type { Lease, PendingCommand } from './types.ts';

/** What the hub sends to a miner over its socket, one JSON text frame each. */
export type ServerFrame =
  | { type: 'ack'; ts?: number | string; lease_expires_at: string; next_heartbeat_sec: number }
  | CommandFrame
  | { type: 'error'; error: ErrorEnvelope['error'] };

/** Acknowledged by its id in a later heartbeat; until then it may come again. */
export interface CommandFrame extends PendingCommand {
  type: 'command';
}

/** A frame as it came; null stands for a binary one, whose content nobody needs. */
export type RawFrame = Buffer | null;

/**
 * Reads a heartbeat frame.
 * @throws AppError `bad_json` or `invalid`
 */
export function readFrame(frame: RawFrame): HeartbeatPayload {
  if (frame === null) throw new AppError('invalid', 'frames must be text');
  const parsed = v.safeParse(HeartbeatFrame, parseJson(frame.toString('utf8')));
  if (!parsed.success) throw invalid(parsed.issues);
  return parsed.output;
}

/** The answer to a heartbeat; `ts` is handed back so that the miner can tell which one, and how long it took. */
export function ackFrame(payload: HeartbeatPayload, lease: Lease): ServerFrame {
  const { lease_expires_at, next_heartbeat_sec } = leaseFields(lease);
  const { ts } = payload;
  return { type: 'ack', ...(ts === undefined ? {} : { ts }), lease_expires_at, next_heartbeat_sec };
}

export function commandFrame({ id, name, args }: PendingCommand): CommandFrame {
  return { type: 'command', id, name, args };
}

/** A refused frame, or one that could not be carried out. */
export function errorFrame(error: AppError, requestId: string): ServerFrame {
  return { type: 'error', ...envelope(error, requestId) };
}
