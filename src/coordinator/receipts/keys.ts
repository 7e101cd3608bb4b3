/** Which public keys are this coordinator's: those in use, and those that signed before. */
import type { Database } from '../../platform/db.ts';
import { keyHex, type Signer } from './ed25519.ts';
import type { ReceiptSigners } from './receipt.ts';
import { findKeys, listKeys } from './store.ts';

export interface PublicKey {
  readonly key_id: string;
  readonly alg: 'Ed25519';
  readonly public_key_hex: string;
  readonly use: 'signing' | 'attestation';
  readonly current: boolean;
  /** When it first signed a receipt; null before. */
  readonly created_at: string | null;
}

/** Keys are rotated by hand, a few times a year. */
const MAX_KEYS = 1000;

/** All public keys, those in use first. */
export async function publicKeys(db: Database, signers: ReceiptSigners | undefined): Promise<PublicKey[]> {
  const rows = await db.run((orm) => listKeys(orm, MAX_KEYS));
  const stored = new Map(rows.map((row) => [row.keyId, row]));
  const inUse = currentSigners(signers);
  const current = inUse.map(({ signer, use }) =>
    describe(signer.keyId, use, true, stored.get(signer.keyId)?.createdAt),
  );
  const ids = new Set(inUse.map(({ signer }) => signer.keyId));
  const older = rows
    .filter(({ keyId }) => !ids.has(keyId))
    .map(({ keyId, use, createdAt }) => describe(keyId, use, false, createdAt));
  return [...current, ...older];
}

/** Tells of the given keys which are known here. */
export async function knownKeys(
  db: Database,
  signers: ReceiptSigners | undefined,
  keyIds: readonly string[],
): Promise<ReadonlySet<string>> {
  const own = currentSigners(signers).map(({ signer }) => signer.keyId);
  const others = keyIds.filter((keyId) => !own.includes(keyId) && keyHex(keyId) !== undefined);
  const found = others.length === 0 ? [] : await db.run((orm) => findKeys(orm, others));
  return new Set([...own, ...found]);
}

function currentSigners(
  signers: ReceiptSigners | undefined,
): Array<{ signer: Signer; use: PublicKey['use'] }> {
  if (signers === undefined) return [];
  const { signing, attestation } = signers;
  const attesting = attestation === undefined || attestation.keyId === signing.keyId ? [] : [attestation];
  return [
    { signer: signing, use: 'signing' },
    ...attesting.map((signer) => ({ signer, use: 'attestation' as const })),
  ];
}

function describe(
  keyId: string,
  use: PublicKey['use'],
  current: boolean,
  createdAt: Date | undefined,
): PublicKey {
  return {
    key_id: keyId,
    alg: 'Ed25519',
    public_key_hex: keyHex(keyId) ?? '',
    use,
    current,
    created_at: createdAt?.toISOString() ?? null,
  };
}
