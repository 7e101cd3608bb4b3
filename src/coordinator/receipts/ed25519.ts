/** Ed25519 (RFC 8032) with keys as they stand in settings and receipts. */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';

/** A signature as receipts carry it. */
export interface Signature {
  readonly alg: 'Ed25519';
  /** The public key, 32 bytes in base64url. */
  readonly key_id: string;
  /** 64 bytes in base64url. */
  readonly sig: string;
}

export interface Signer {
  readonly keyId: string;
  sign(canonicalText: string): Signature;
}

/** DER of a PKCS #8 Ed25519 private key up to its seed (RFC 8410, section 7). */
const PKCS8_BEFORE_SEED = Buffer.from('302e020100300506032b657004220420', 'hex');

const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** @param seedHex 32 bytes, as 64 hexadecimal digits */
export function createSigner(seedHex: string): Signer {
  const der = Buffer.concat([PKCS8_BEFORE_SEED, Buffer.from(seedHex, 'hex')]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const keyId = createPublicKey(key).export({ format: 'jwk' }).x as string;
  return {
    keyId,
    sign: (text) => ({
      alg: 'Ed25519',
      key_id: keyId,
      sig: sign(null, Buffer.from(text), key).toString('base64url'),
    }),
  };
}

/** Whether the signature is that of the text under the key it names; false for whatever is no key or no signature. */
export function isSignatureOf(text: string, signature: Pick<Signature, 'key_id' | 'sig'>): boolean {
  const key = publicKey(signature.key_id);
  const bytes = decode(signature.sig, SIGNATURE_BYTES);
  return key !== undefined && bytes !== undefined && verify(null, Buffer.from(text), key, bytes);
}

/** The public key of a key id in hexadecimal; undefined when it is none. */
export function keyHex(keyId: string): string | undefined {
  return decode(keyId, KEY_BYTES)?.toString('hex');
}

function publicKey(keyId: string): KeyObject | undefined {
  if (decode(keyId, KEY_BYTES) === undefined) return undefined;
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: keyId }, format: 'jwk' });
}

/** Only the one way to write the bytes counts: a key has one id. */
function decode(text: string, bytes: number): Buffer | undefined {
  const decoded = Buffer.from(text, 'base64url');
  return decoded.length === bytes && decoded.toString('base64url') === text ? decoded : undefined;
}
