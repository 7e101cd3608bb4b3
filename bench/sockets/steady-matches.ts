import { setTimeout as sleep } from 'node:timers/promises';
import { HubError } from '../../src/sdk/errors.ts';
import type { HubClient } from '../../src/sdk/hub-client.ts';
import { Latency } from '../hub/latency.ts';
import { newJobId, requestOf, type Shape } from '../match/shapes.ts';

/**
 * Matches of all kinds in turn, each sent at its moment, however long the answers take.
 * @param perSec matches a second
 * @param until how many seconds, or what says that it is over
 * @param onFailed takes what a match failed with
 * @returns how long each that was answered took over HTTP, from sending to the answer
 * @throws HubError when one is not answered, unless `onFailed` takes it
 */
export async function matchSteadily(
  client: HubClient,
  shapes: readonly Shape[],
  perSec: number,
  until: number | (() => boolean),
  onFailed?: (error: HubError) => void,
): Promise<Latency> {
  const latency = new Latency();
  const answers: Promise<void>[] = [];
  const startedMs = performance.now();
  const isOver = typeof until === 'number' ? (sent: number) => sent >= perSec * until : until;
  for (let n = 0; n === 0 || !isOver(n); n += 1) {
    const waitMs = startedMs + (n * 1000) / perSec - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    const answer = match(client, shapes[n % shapes.length] as Shape, latency);
    const settled = onFailed === undefined ? answer : answer.catch((error) => taken(error, onFailed));
    // Awaited at the end; one that fails before is no unhandled rejection.
    settled.catch(() => {});
    answers.push(settled);
  }
  await Promise.all(answers);
  return latency;
}

async function match(client: HubClient, shape: Shape, latency: Latency): Promise<void> {
  const sentMs = performance.now();
  await client.match(requestOf(shape, newJobId()));
  latency.record(performance.now() - sentMs);
}

function taken(error: unknown, onFailed: (error: HubError) => void): void {
  if (!(error instanceof HubError)) throw error;
  onFailed(error);
}
