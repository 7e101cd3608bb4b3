import * as v from 'valibot';

/** Text that may be stored and shown: no control characters, no halves of surrogate pairs (Postgres and JSON refuse both). */
const CLEAN = /^[^\p{Cc}\p{Cs}]*$/u;

/** numeric(20,8): twelve digits before the point, eight after. */
const MONEY = /^\d{1,12}(\.\d{1,8})?$/;
const MONEY_LIMIT = 1e12;
const MONEY_DECIMALS = 8;

/** Clean text of `min` to `max` characters. */
export function words(min: number, max: number) {
  return v.pipe(
    v.string(),
    v.minLength(min, `must have at least ${min} characters`),
    v.maxLength(max, `must have at most ${max} characters`),
    v.regex(CLEAN, 'must not have control characters or broken Unicode'),
  );
}

/** Text that fits a pattern as a whole; `why` says what the pattern wants. */
export function pattern(regex: RegExp, why: string) {
  return v.pipe(v.string(), v.regex(regex, why));
}

/** A whole number of at least `min` and at most `max`. */
export function integer(min: number, max: number) {
  return v.pipe(
    v.number(),
    v.integer('must be a whole number'),
    v.minValue(min, `must be at least ${min}`),
    v.maxValue(max, `must be at most ${max}`),
  );
}

/** A finite number of at least `min` and at most `max`. */
export function quantity(min: number, max: number) {
  return v.pipe(
    v.number(),
    v.finite('must be finite'),
    v.minValue(min, `must be at least ${min}`),
    v.maxValue(max, `must be at most ${max}`),
  );
}

/** At most `max` items; repeated ones count once. */
export function listOf<const S extends v.GenericSchema<string, string>>(item: S, max: number) {
  return v.pipe(
    v.array(item),
    v.maxLength(max, `must have at most ${max} items`),
    v.transform((items) => [...new Set(items)]),
  );
}

/**
 * An amount of money or a price, >= 0, as a number or a decimal string with at most 12 digits before and 8 after the point. It comes out as the
 * shortest decimal string ("0.50" becomes "0.5").
 */
export function money() {
  const text = v.pipe(v.string(), v.regex(MONEY, 'must be a decimal like 0.75, with at most 8 decimals'));
  const number = v.pipe(
    v.number(),
    v.check(isMoney, 'must be from 0 to 999999999999, with at most 8 decimals'),
    v.transform((value) => value.toFixed(MONEY_DECIMALS)),
  );
  const union = v.union([text, number], 'must be an amount from 0 to 999999999999, with at most 8 decimals');
  return v.pipe(union, v.transform(shortestDecimal));
}

/** Years that a moment may be in; others are mistakes. */
const FIRST_YEAR = 2000;
const LAST_YEAR = 2200;

/** A time in ISO 8601 with its offset, of an existing day of the years 2000 to 2200. */
export function moment() {
  const why = `must be a time like 2026-01-31T12:00:00Z, of the years ${FIRST_YEAR} to ${LAST_YEAR}`;
  // Date.parse knows fewer forms of an offset than ISO 8601.
  const isInRange = (text: string) => {
    const year = new Date(text).getUTCFullYear();
    return year >= FIRST_YEAR && year <= LAST_YEAR;
  };
  return v.pipe(v.string(), v.isoTimestamp(why), v.check(hasExistingDay, why), v.check(isInRange, why));
}

/** Whether a time in ISO 8601 is of an existing day: its format, and Date.parse, take February 30. */
export function hasExistingDay(time: string): boolean {
  const day = time.slice(0, 10);
  const midnight = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(day);
}

/** A field that may be left out; null counts as left out. */
export function maybe<const S extends v.GenericSchema>(schema: S) {
  return v.pipe(
    v.nullish(schema),
    v.transform((value) => value ?? undefined),
  );
}

/** Any object of at most `maxChars` as JSON, handed on as it is. */
export function jsonObject(maxChars: number) {
  return v.pipe(
    recordOf(v.unknown(), 'must be an object'),
    v.check(
      (value) => JSON.stringify(value).length <= maxChars,
      `must have at most ${maxChars} characters as JSON`,
    ),
  );
}

/** An object with any keys, whose values fit `item` as they are. v.record leaves out keys like `constructor`; this one keeps them. */
export function recordOf<const S extends v.GenericSchema>(item: S, why: string) {
  const record = v.record(v.string(), item);
  const fits = (value: unknown) =>
    isPlainObject(value) && Object.values(value).every((each) => v.is(item, each));
  const kept = v.custom<v.InferOutput<typeof record>>(fits, why);
  const run = ((dataset, config) => kept['~run'](dataset, config)) as (typeof record)['~run'];
  return { ...record, '~run': run };
}

/**
 * An object without other keys than `entries`. `aliases` are read under their other name (`{base_price: 'price_token_per_ksec'}`), unless that
 * is given too: then the alias is a key too many. The schema keeps them under `aliases` for OpenAPI.
 */
export function body<const E extends v.ObjectEntries>(
  entries: E,
  aliases: Readonly<Record<string, string>> = {},
) {
  type Input = v.InferInput<v.StrictObjectSchema<E, undefined>>;
  const plain = v.custom<Input>(isPlainObject, 'must be an object');
  const renamed = v.transform((input: Input) => rename(input, aliases) as Input);
  return v.pipe(plain, renamed, Object.assign(strictObject(entries), { aliases }));
}

/** v.strictObject stops at the first unknown key; this one names them all. */
function strictObject<const E extends v.ObjectEntries>(entries: E): v.StrictObjectSchema<E, undefined> {
  const schema = v.strictObject(entries);
  return {
    ...schema,
    '~run'(dataset, config) {
      const input = dataset.value;
      const result = schema['~run'](dataset, config);
      const isOwn = (issue: v.BaseIssue<unknown>) => issue.expected === 'never' && issue.path?.length === 1;
      const first = result.issues?.find((issue) => issue.type === 'strict_object' && isOwn(issue));
      if (first === undefined || !isPlainObject(input)) return result;
      const [at] = first.path ?? [];
      for (const [key, value] of Object.entries(input as object)) {
        if (at === undefined || key === at.key || Object.hasOwn(entries, key)) continue;
        result.issues?.push({ ...first, path: [{ ...at, key, value } as v.IssuePathItem] });
      }
      return result;
    },
  };
}

function isPlainObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Object.fromEntries defines keys, it does not assign them: a `__proto__` stays a key like any other, and is refused as one. */
function rename(input: object, aliases: Readonly<Record<string, string>>): object {
  const nameOf = (key: string) => {
    const name = Object.hasOwn(aliases, key) ? aliases[key] : undefined;
    return name === undefined || Object.hasOwn(input, name) ? key : name;
  };
  return Object.fromEntries(Object.entries(input).map(([key, value]) => [nameOf(key), value]));
}

function isMoney(value: number): boolean {
  return value >= 0 && value < MONEY_LIMIT && Number(value.toFixed(MONEY_DECIMALS)) === value;
}

function shortestDecimal(text: string): string {
  const [whole = '0', fraction = ''] = text.split('.');
  const digits = whole.replace(/^0+(?=\d)/, '');
  const decimals = fraction.replace(/0+$/, '');
  return decimals === '' ? digits : `${digits}.${decimals}`;
}
