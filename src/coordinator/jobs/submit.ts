import { createHash } from 'node:crypto';
import type * as v from 'valibot';
import { AppError } from '../../platform/errors.ts';
import { quotaExceeded } from '../billing/quota.ts';
import type { CoordinatorDeps } from '../deps.ts';
import { needsOf } from '../miners/fit.ts';
import { isJsonObject, parseJsonText, sortedJsonText, writeJsonText } from '../receipts/json-text.ts';
import { newJobId } from './job-id.ts';
import type { SubmitRequest } from './schema.ts';
import { findByKey, insertJob } from './store.ts';
import type { ViewRow } from './view.ts';

export interface Submission {
  readonly row: ViewRow;
  /** The first job under its idempotency key came before. */
  readonly repeated: boolean;
  /** It waits for the pool hub to be asked. */
  readonly isHeld: boolean;
}

/**
 * Stores a job. While a pool hub is asked for miners, the job is held for at most OFFER_WINDOW_MS; the caller asks.
 * @param bodyText the body as received, from which payload and constraints are kept
 * @throws AppError `conflict` when the idempotency key belongs to another request, `quota_exceeded`
 */
export async function submitJob(
  { db, config, hub }: Pick<CoordinatorDeps, 'db' | 'config' | 'hub'>,
  clientId: string,
  request: v.InferOutput<typeof SubmitRequest>,
  bodyText: string,
  idempotencyKey: string | null,
): Promise<Submission> {
  const body = parseJsonText(bodyText);
  const textOf = (name: string) =>
    writeJsonText((isJsonObject(body) ? body.get(name) : undefined) ?? new Map());
  // The order of keys means nothing; the text of a number does, for the miner gets it as it is.
  const requestDigest = createHash('sha256').update(sortedJsonText(body)).digest('hex');
  const heldMs = hub?.isWorthAsking() === true ? config.offer_window_ms : 0;
  const { row, spent } = await insertJob(db, {
    jobId: newJobId(),
    clientId,
    idempotencyKey,
    requestDigest,
    payloadText: textOf('payload'),
    constraintsText: textOf('constraints'),
    needs: needsOf(request.constraints),
    ttlMs: request.ttl_seconds * 1000,
    paymentAmount: request.payment_amount ?? null,
    paymentCurrency: request.payment_currency ?? null,
    heldMs,
  });
  if (row !== undefined) return { row, repeated: false, isHeld: heldMs > 0 };
  // A repeat gets its job, whatever became of the plan since.
  const first =
    idempotencyKey === null ? undefined : await db.run((orm) => findByKey(orm, clientId, idempotencyKey));
  if (first !== undefined) return repetitionOf(first, requestDigest);
  if (spent !== undefined) throw quotaExceeded(spent);
  throw new AppError('conflict', 'the job under this Idempotency-Key is gone');
}

function repetitionOf(row: ViewRow & { readonly request_digest: string }, requestDigest: string): Submission {
  if (row.request_digest !== requestDigest)
    throw new AppError('conflict', 'this Idempotency-Key belongs to another request');
  return { row, repeated: true, isHeld: false };
}
