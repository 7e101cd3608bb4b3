/** Checks receipts, of this coordinator or of any other that signs the same bytes. */
import { canonicalText } from './canonical.ts';
import { isSignatureOf } from './ed25519.ts';
import { isJsonObject, type JsonNode, type JsonObject, JsonTextError, parseJsonText } from './json-text.ts';
import { UNSIGNED_MEMBERS } from './receipt.ts';

/** One signature of a receipt. */
export interface CheckedSignature {
  /** Null when the receipt does not name one. */
  readonly key_id: string | null;
  /** Whether it is the signature of these bytes under this key, whoever's key that is. */
  readonly valid: boolean;
  /** Whether the key is one of those that are trusted. */
  readonly known: boolean;
}

export interface CheckedReceipt {
  /** Signed by a known key, and every attestation there is holds too. */
  readonly valid: boolean;
  readonly receipt_id: string | null;
  readonly job_id: string | null;
  readonly signature: CheckedSignature;
  readonly attestations: readonly CheckedSignature[];
  /** Why it is not valid; empty when it is. */
  readonly problems: readonly string[];
}

/** More are no receipt, but an attempt to keep the verifier busy. */
const MAX_ATTESTATIONS = 16;

/**
 * Checks a receipt as it was received: the text decides, a number that was parsed and written again may have other digits.
 * @param isKnown whether a key (base64url) is trusted to sign receipts
 * @throws JsonTextError when the text is no JSON object
 */
export function checkReceipt(text: string, isKnown: (keyId: string) => boolean): CheckedReceipt {
  const node = parseJsonText(text);
  if (!isJsonObject(node)) throw new JsonTextError('a receipt is an object');
  return checkReceiptObject(node, isKnown);
}

/** As `checkReceipt`, of a receipt that was parsed with its number texts. */
export function checkReceiptObject(receipt: JsonObject, isKnown: (keyId: string) => boolean): CheckedReceipt {
  const signed = canonicalText(receipt, UNSIGNED_MEMBERS);
  const signature = checkSignature(receipt.get('signature'), signed, isKnown);
  const listed = receipt.get('attestations') ?? [];
  const attestations = Array.isArray(listed)
    ? listed.slice(0, MAX_ATTESTATIONS).map((item: JsonNode) => checkSignature(item, signed, isKnown))
    : [];
  const problems: string[] = [];
  if (!signature.valid) problems.push('the signature is not that of these bytes');
  else if (!signature.known) problems.push('the signing key is not known');
  if (!Array.isArray(listed) || listed.length > MAX_ATTESTATIONS)
    problems.push(`attestations must be a list of at most ${MAX_ATTESTATIONS}`);
  if (attestations.some(({ valid }) => !valid)) problems.push('an attestation is not that of these bytes');
  else if (attestations.some(({ known }) => !known)) problems.push('a key of an attestation is not known');
  return {
    valid: problems.length === 0,
    receipt_id: textOf(receipt.get('receipt_id')),
    job_id: textOf(receipt.get('job_id')),
    signature,
    attestations,
    problems,
  };
}

/** The keys that a receipt names, whether they signed it or not. */
export function namedKeys(receipt: JsonObject): string[] {
  const listed = receipt.get('attestations');
  const signatures = [receipt.get('signature'), ...(Array.isArray(listed) ? listed : [])];
  const ids = signatures.map((node: JsonNode | undefined) =>
    isJsonObject(node) ? textOf(node.get('key_id')) : null,
  );
  return [...new Set(ids.filter((id) => id !== null))].slice(0, MAX_ATTESTATIONS + 1);
}

function checkSignature(
  node: JsonNode | undefined,
  signed: string,
  isKnown: (keyId: string) => boolean,
): CheckedSignature {
  if (!isJsonObject(node)) return { key_id: null, valid: false, known: false };
  const keyId = textOf(node.get('key_id'));
  const sig = textOf(node.get('sig'));
  const named = keyId !== null && sig !== null && node.get('alg') === 'Ed25519';
  return {
    key_id: keyId,
    valid: named && isSignatureOf(signed, { key_id: keyId, sig }),
    known: keyId !== null && isKnown(keyId),
  };
}

function textOf(node: JsonNode | undefined): string | null {
  return typeof node === 'string' ? node : null;
}
