import { createParser, type EventSourceMessage } from 'eventsource-parser';
import type { Job } from './coordinator-types.ts';
import { HubError } from './errors.ts';
import type { Connection } from './reconnect.ts';
import type { Call, Transport } from './transport.ts';

/** A job as it was after one of its changes. */
export interface JobEvent {
  /** Number of the change, from 1. */
  readonly revision: number;
  readonly job: Job;
}

/** States that no change follows. */
const OVER: ReadonlySet<Job['state']> = new Set(['COMPLETED', 'FAILED', 'CANCELED', 'EXPIRED']);

/** Three times what the coordinator lets pass without a sign of life, ms: the connection is taken for lost then. */
const MAX_SILENCE_MS = 45_000;

/** Much more than an event has. */
const MAX_BUFFER_CHARS = 262_144;

/** Where a stream was broken off. */
export interface EventPlace {
  /** The last change that is known, 0 for none. */
  revision: number;
}

/**
 * One connection to the events of a job. Changes up to `place` are not told again.
 * @param place moves on with every event
 * @returns true when the job is over
 */
export async function* jobEventsOnce(
  transport: Transport,
  call: Call,
  place: EventPlace,
  works: () => void,
): Connection<JobEvent> {
  const ending = new AbortController();
  const end = () => ending.abort();
  call.signal?.addEventListener('abort', end, { once: true });
  try {
    const headers = { ...call.headers, Accept: 'text/event-stream', ...resumeHeader(place) };
    const response = await transport.open({ ...call, headers }, ending.signal);
    // The coordinator has nothing to add to what is known.
    if (response.status === 204) return true;
    for await (const event of eventsIn(response, ending)) {
      works();
      if (event.revision <= place.revision) continue;
      place.revision = event.revision;
      yield event;
      if (OVER.has(event.job.state)) return true;
    }
    return false;
  } finally {
    call.signal?.removeEventListener('abort', end);
    ending.abort();
  }
}

function resumeHeader({ revision }: EventPlace): Record<string, string> {
  return revision > 0 ? { 'Last-Event-ID': String(revision) } : {};
}

/** @throws HubError when the connection breaks, falls silent or brings something else */
async function* eventsIn(response: Response, ending: AbortController): AsyncGenerator<JobEvent, void> {
  const events: JobEvent[] = [];
  const parser = createParser({
    maxBufferSize: MAX_BUFFER_CHARS,
    onEvent: (message) => void events.push(eventOf(message)),
    onError: (error) => {
      // Fields of a later version are no error.
      if (error.type === 'max-buffer-size-exceeded') throw new HubError('bad_answer', 'an event is too long');
    },
  });
  const decoder = new TextDecoder();
  const silence = setTimeout(() => ending.abort(), MAX_SILENCE_MS);
  try {
    for await (const chunk of response.body ?? []) {
      silence.refresh();
      parser.feed(decoder.decode(chunk, { stream: true }));
      yield* events.splice(0);
    }
  } catch (cause) {
    if (cause instanceof HubError) throw cause;
    throw new HubError('unreachable', 'the event stream broke off', { cause });
  } finally {
    clearTimeout(silence);
  }
}

function eventOf({ id = '', data }: EventSourceMessage): JobEvent {
  try {
    const job = JSON.parse(data) as Job;
    if (/^\d{1,9}$/.test(id) && typeof job?.state === 'string') return { revision: Number(id), job };
  } catch {
    // Told below: whatever it was, it is none of the coordinator's.
  }
  throw new HubError('bad_answer', 'the event stream brought an unreadable event');
}
