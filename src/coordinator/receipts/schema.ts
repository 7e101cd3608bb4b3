import * as v from 'valibot';
import { body, maybe, pattern } from '../../platform/fields.ts';
import { pageSize } from '../jobs/schema.ts';

const DEFAULT_PAGE = '50';

export const ReceiptsQuery = body({
  limit: v.optional(pageSize(), DEFAULT_PAGE),
  cursor: maybe(v.pipe(pattern(/^\d{1,15}$/, 'must be the next_cursor of a page'), v.transform(Number))),
});

const Signature = v.object({
  alg: v.literal('Ed25519'),
  key_id: v.pipe(v.string(), v.description('the public key, 32 bytes in base64url')),
  sig: v.pipe(v.string(), v.description('64 bytes in base64url')),
});

export const ReceiptAnswer = v.pipe(
  v.looseObject({
    version: v.literal('1.0'),
    receipt_id: v.string(),
    job_id: v.string(),
    provider: v.pipe(v.string(), v.description('the miner')),
    client: v.string(),
    units: v.number(),
    unit_type: v.string(),
    price: v.nullable(v.union([v.number(), v.string()])),
    started_at: v.pipe(v.number(), v.description('Unix seconds')),
    completed_at: v.pipe(v.number(), v.description('Unix seconds')),
    metadata: v.record(v.string(), v.unknown()),
    signature: Signature,
    attestations: v.array(Signature),
  }),
  v.description(
    'Verify the text as it came: numbers that were parsed and written again may have other digits',
  ),
  v.metadata({ ref: 'Receipt' }),
);

export const ReceiptPage = v.pipe(
  v.object({
    items: v.array(ReceiptAnswer),
    next_cursor: v.pipe(v.optional(v.string()), v.description('absent on the last page')),
  }),
  v.metadata({ ref: 'ReceiptPage' }),
);

/** Any object may be asked about; the answer says what is wrong with it. */
export const VerifyRequest = v.pipe(
  v.record(v.string(), v.unknown()),
  v.description('a receipt, as it came'),
  v.metadata({ ref: 'VerifyRequest' }),
);

const CheckedSignature = v.object({
  key_id: v.nullable(v.string()),
  valid: v.pipe(
    v.boolean(),
    v.description('it is the signature of these bytes under this key, whoever has it'),
  ),
  known: v.pipe(v.boolean(), v.description('the key is or was one of this coordinator')),
});

export const VerifyAnswer = v.pipe(
  v.object({
    valid: v.pipe(v.boolean(), v.description('all signatures hold, under known keys')),
    receipt_id: v.nullable(v.string()),
    job_id: v.nullable(v.string()),
    signature: CheckedSignature,
    attestations: v.array(CheckedSignature),
    problems: v.pipe(v.array(v.string()), v.description('why it is not valid')),
  }),
  v.metadata({ ref: 'VerifyAnswer' }),
);

export const KeysAnswer = v.pipe(
  v.object({
    keys: v.array(
      v.object({
        key_id: v.string(),
        alg: v.literal('Ed25519'),
        public_key_hex: v.string(),
        use: v.picklist(['signing', 'attestation']),
        current: v.pipe(v.boolean(), v.description('signs new receipts')),
        created_at: v.pipe(v.nullable(v.string()), v.description('null before its first receipt')),
      }),
    ),
  }),
  v.metadata({ ref: 'ReceiptKeys' }),
);
