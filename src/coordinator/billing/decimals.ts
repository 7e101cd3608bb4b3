/** Exact decimals with 8 places, as whole numbers of hundred-millionths. Pure. */

const PLACES = 8;
const UNIT = 10n ** BigInt(PLACES);

/** numeric(20,8) ends below this. */
const LIMIT = 10n ** 20n;

/** No decimal that could fit has more digits or zeros written out. */
const MAX_EXPONENT = 400;

/**
 * The decimal that a JSON number stands for, to the digit it was written with; past the eighth place it is rounded half up. A sender
 * that computes with floating point writes 0.30000000000000004, and means 0.3.
 * @returns undefined for what is negative or does not fit numeric(20,8)
 */
export function decimalOfNumber(lexeme: string): string | undefined {
  const [, whole = '', fraction = '', power = '0'] =
    /^(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(lexeme) ?? [];
  const exponent = Number(power);
  const digits = BigInt(`${whole}${fraction}` || '0');
  if (whole === '') return undefined;
  if (digits === 0n) return '0';
  if (Math.abs(exponent) > MAX_EXPONENT) return exponent < 0 ? '0' : undefined;
  const shift = exponent - fraction.length + PLACES;
  const units = shift >= 0 ? digits * 10n ** BigInt(shift) : divideHalfUp(digits, 10n ** BigInt(-shift));
  return units < LIMIT ? writeUnits(units) : undefined;
}

/** quantity * price, rounded half up to the eighth place. @returns undefined when it does not fit numeric(20,8) */
export function product(quantity: string, price: string): string | undefined {
  const units = divideHalfUp(readUnits(quantity) * readUnits(price), UNIT);
  return units < LIMIT ? writeUnits(units) : undefined;
}

/** Whether an amount is quantity * price, up to what rounding each of the three to the eighth place makes of it. */
export function isProduct(amount: string, quantity: string, price: string): boolean {
  const [factor, other] = [readUnits(quantity), readUnits(price)];
  const difference = readUnits(amount) * UNIT - factor * other;
  return (difference < 0n ? -difference : difference) <= UNIT + factor + other;
}

/** @param text a plain decimal of at most 8 places */
function readUnits(text: string): bigint {
  const [whole = '', fraction = ''] = text.split('.');
  return BigInt(whole + fraction.padEnd(PLACES, '0'));
}

function writeUnits(units: bigint): string {
  const text = units.toString().padStart(PLACES + 1, '0');
  const fraction = text.slice(-PLACES).replace(/0+$/, '');
  return fraction === '' ? text.slice(0, -PLACES) : `${text.slice(0, -PLACES)}.${fraction}`;
}

function divideHalfUp(value: bigint, divisor: bigint): bigint {
  return (2n * value + divisor) / (2n * divisor);
}
