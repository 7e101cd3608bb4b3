import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

type Payload = Readonly<Record<string, unknown>>;
type Result = Record<string, unknown>;

/** Why a job failed, as the coordinator is told. */
export class JobFailure extends Error {
  override readonly name = 'JobFailure';
  /** 1-64 of A-Z a-z 0-9 . _ : - */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const MAX_SLEEP_MS = 3_600_000;
const CODE = /^[A-Za-z0-9._:-]{1,64}$/;

const BUILT_IN: Readonly<
  Record<string, (payload: Payload, signal: AbortSignal) => Result | Promise<Result>>
> = {
  echo: ({ type: _, ...rest }) => rest,
  sum({ values }) {
    if (!isNumbers(values)) throw badPayload('values must be a list of numbers');
    return { sum: values.reduce((sum, value) => sum + value, 0) };
  },
  async sleep({ ms }, signal) {
    if (typeof ms !== 'number' || !(ms >= 0 && ms <= MAX_SLEEP_MS)) {
      throw badPayload(`ms must be a number from 0 to ${MAX_SLEEP_MS}`);
    }
    await sleep(ms, undefined, { signal });
    return { slept_ms: ms };
  },
  sha256({ data }) {
    if (typeof data !== 'string') throw badPayload('data must be a text');
    return { sha256: createHash('sha256').update(data).digest('hex') };
  },
  fail({ error_code, error_message }) {
    const code = typeof error_code === 'string' && CODE.test(error_code) ? error_code : 'asked_to_fail';
    throw new JobFailure(code, typeof error_message === 'string' ? error_message : 'the job asked to fail');
  },
};

/**
 * Does a job by the `type` of its payload: `echo`, `sum` of `values`, `sleep` for `ms`, `sha256` of the text `data`, or `fail`.
 * @param signal breaks a job off
 * @throws JobFailure; the signal's reason
 */
export async function runBuiltIn(payload: Payload, signal: AbortSignal): Promise<Result> {
  const { type } = payload;
  const work = typeof type === 'string' && Object.hasOwn(BUILT_IN, type) ? BUILT_IN[type] : undefined;
  if (work === undefined) {
    throw new JobFailure('unknown_type', `type must be one of ${Object.keys(BUILT_IN).join(', ')}`);
  }
  return work(payload, signal);
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'number');
}

function badPayload(message: string): JobFailure {
  return new JobFailure('bad_payload', message);
}
