/** Makes receipts: what was done for whom, signed. */
import { randomBytes } from 'node:crypto';
import { canonicalText } from './canonical.ts';
import { createSigner, type Signer } from './ed25519.ts';
import { isJsonObject, JsonNumber, type JsonObject, objectText, parseJsonText } from './json-text.ts';

/** A job at the moment of its completion. JSON comes as the text that was received. */
export interface CompletedJob {
  readonly jobId: string;
  readonly clientId: string;
  readonly minerId: string;
  readonly payloadText: string;
  readonly constraintsText: string | null;
  /** Decimal string; null when nothing was offered. */
  readonly paymentAmount: string | null;
  readonly paymentCurrency: string | null;
  /** When the miner got the job, Unix milliseconds. */
  readonly startedAtMs: number;
}

/** What the miner delivered. */
export interface JobOutcome {
  readonly resultText: string;
  readonly metricsText: string | null;
  /** Unix milliseconds. */
  readonly completedAtMs: number;
}

/** RECEIPT_SIGNING_KEY_HEX and RECEIPT_ATTESTATION_KEY_HEX: seeds of 32 bytes in hexadecimal. */
export interface ReceiptSettings {
  readonly receipt_signing_key_hex?: string | undefined;
  readonly receipt_attestation_key_hex?: string | undefined;
}

/** The keys that receipts are made with. */
export interface ReceiptSigners {
  readonly signing: Signer;
  readonly attestation: Signer | undefined;
}

export interface Receipt {
  readonly receiptId: string;
  /** JSON. */
  readonly text: string;
}

const VERSION = '1.0';
const RECEIPT_ID_BYTES = 16;
const DEFAULT_UNIT_TYPE = 'gpu_seconds';
const MAX_UNIT_TYPE_CHARS = 64;

/** What does not belong to the signed bytes. */
export const UNSIGNED_MEMBERS: readonly string[] = ['signature', 'attestations'];

/** @returns undefined when no signing key is set: then there are no receipts */
export function receiptSigners(settings: ReceiptSettings): ReceiptSigners | undefined {
  const { receipt_signing_key_hex: signing, receipt_attestation_key_hex: attestation } = settings;
  if (signing === undefined) return undefined;
  return {
    signing: createSigner(signing),
    attestation: attestation === undefined ? undefined : createSigner(attestation),
  };
}

/** Signs the receipt of a job. Its numbers are those of the received texts, to the digit. */
export function signReceipt(signers: ReceiptSigners, job: CompletedJob, outcome: JobOutcome): Receipt {
  const receiptId = randomBytes(RECEIPT_ID_BYTES).toString('hex');
  const { resultText, metricsText } = outcome;
  const members = {
    version: JSON.stringify(VERSION),
    receipt_id: JSON.stringify(receiptId),
    job_id: JSON.stringify(job.jobId),
    provider: JSON.stringify(job.minerId),
    client: JSON.stringify(job.clientId),
    ...terms(job, outcome),
    started_at: unixSeconds(job.startedAtMs),
    completed_at: unixSeconds(outcome.completedAtMs),
    metadata: objectText({
      job_payload: job.payloadText,
      job_constraints: job.constraintsText ?? 'null',
      result: resultText,
      metrics: metricsText ?? 'null',
    }),
  };
  const signed = canonicalText(objectOf(objectText(members)), UNSIGNED_MEMBERS);
  const { signing, attestation } = signers;
  const text = objectText({
    ...members,
    signature: JSON.stringify(signing.sign(signed)),
    attestations: JSON.stringify(attestation === undefined ? [] : [attestation.sign(signed)]),
  });
  return { receiptId, text };
}

/** units, unit_type and price: as the metrics say, else the result, else the seconds from start to end and no price. */
function terms(job: CompletedJob, outcome: JobOutcome): Record<'units' | 'unit_type' | 'price', string> {
  const sources = [outcome.metricsText, outcome.resultText].map((text) =>
    text === null ? new Map<string, never>() : objectOf(text),
  );
  const units = first(sources, ({ units: found }) => numberText(found));
  const unitType = first(sources, ({ unit_type: found }) => unitTypeOf(found));
  const price = first(sources, ({ price: found }) => numberText(found) ?? decimalText(found));
  const durationMs = Math.max(0, outcome.completedAtMs - job.startedAtMs);
  return {
    units: units ?? String(durationMs / 1000),
    unit_type: JSON.stringify(unitType ?? DEFAULT_UNIT_TYPE),
    price: price ?? 'null',
  };
}

type Members = Partial<Record<'units' | 'unit_type' | 'price', unknown>>;

function first(sources: readonly JsonObject[], read: (members: Members) => string | undefined) {
  for (const source of sources) {
    const found = read({
      units: source.get('units'),
      unit_type: source.get('unit_type'),
      price: source.get('price'),
    });
    if (found !== undefined) return found;
  }
  return undefined;
}

function numberText(value: unknown): string | undefined {
  return value instanceof JsonNumber ? value.lexeme : undefined;
}

function decimalText(value: unknown): string | undefined {
  return typeof value === 'string' && /^\d{1,12}(\.\d{1,8})?$/.test(value)
    ? JSON.stringify(value)
    : undefined;
}

function unitTypeOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= MAX_UNIT_TYPE_CHARS ? value : undefined;
}

function unixSeconds(ms: number): string {
  return String(Math.floor(ms / 1000));
}

/** Texts of this process are objects; whatever else they might be has no members. */
function objectOf(text: string): JsonObject {
  const node = parseJsonText(text);
  return isJsonObject(node) ? node : new Map();
}
