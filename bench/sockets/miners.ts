/** A process full of idle miners: each registers, opens its own WebSocket, and beats when the server says. */
import { setTimeout as sleep } from 'node:timers/promises';
import { forEachLimited } from '../../src/cli/bulk.ts';
import { fleetKey, fleetMiner } from '../../src/cli/fleet.ts';
import { HubError } from '../../src/sdk/errors.ts';
import { HeartbeatSocket, SocketClosedError } from '../../src/sdk/heartbeat-socket.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import type { Answer, Ask, FleetPart } from './messages.ts';

/** Miners on their way to their first heartbeat. */
const CONNECTING = 8;
const TIMEOUT_MS = 30_000;
const US_PER_MS = 1000;
/** A hub that cannot serve a heartbeat is asked again after this, ms; jitter comes on top. */
const RETRY_MS = 1000;

const refused = new Map<string, number>();
const lost = new Map<string, number>();
const failed = new Map<string, number>();
let delaysUs: number[] = [];
let lateUs: number[] = [];
let measuring = false;
let silent = false;
let open = 0;

async function connect(part: FleetPart): Promise<void> {
  const { url, from, to, seed, kind } = part;
  const client = new HubClient({ urls: [url], timeoutMs: TIMEOUT_MS });
  const { signal } = new AbortController();
  const indexes = Array.from({ length: to - from }, (_, n) => from + n);
  await forEachLimited(indexes, CONNECTING, undefined, async (index) => {
    const { profile } = fleetMiner(index, { seed, kind });
    try {
      const api_key = fleetKey(seed, profile.miner_id);
      const { session_token: sessionToken } = await client.register({ ...profile, api_key });
      const onClose = () => {
        open -= 1;
      };
      const options = { url, sessionToken, timeoutMs: TIMEOUT_MS, signal, onCommand: () => {}, onClose };
      open += 1; // A handshake that fails is closed as well.
      const socket = await HeartbeatSocket.open(options);
      const waitMs = await beat(socket, performance.now());
      void live(socket, waitMs);
    } catch (error) {
      count(error instanceof SocketClosedError ? lost : refused, error);
    }
  });
}

/** Beats until the socket is lost or all fall silent. A socket has one heartbeat under way at most, so nothing piles up before it. */
async function live(socket: HeartbeatSocket, firstWaitMs: number): Promise<void> {
  try {
    for (let waitMs = firstWaitMs; ; ) {
      const dueMs = performance.now() + waitMs;
      await sleep(waitMs);
      if (silent) return;
      waitMs = await beat(socket, dueMs);
    }
  } catch (error) {
    count(lost, error);
  }
}

/** @returns milliseconds until the next one is due @throws what ended the socket */
async function beat(socket: HeartbeatSocket, dueMs: number): Promise<number> {
  const sentMs = performance.now();
  try {
    const { next_heartbeat_sec } = await socket.beat({ queue_len: 0, busy: false });
    const answeredMs = performance.now();
    if (measuring) {
      delaysUs.push(Math.round((answeredMs - sentMs) * US_PER_MS));
      lateUs.push(Math.round((answeredMs - dueMs) * US_PER_MS));
    }
    return next_heartbeat_sec * 1000;
  } catch (error) {
    if (!(error instanceof HubError) || error.code !== 'unavailable') throw error;
    count(failed, error);
    return RETRY_MS * (1 + Math.random());
  }
}

/** @throws what is no answer of a hub: a mistake of this program */
function count(counts: Map<string, number>, error: unknown): void {
  if (!(error instanceof HubError) && !(error instanceof SocketClosedError)) throw error;
  const why = error instanceof HubError ? error.code : `closed_${error.closeCode}`;
  counts.set(why, (counts.get(why) ?? 0) + 1);
}

async function carryOut(message: Ask): Promise<void> {
  if (message.ask === 'connect') await connect(message.part);
  else if (message.ask === 'silence') silent = true;
  else {
    measuring = message.ask === 'measure';
    if (measuring) [delaysUs, lateUs] = [[], []];
  }
}

process.on('message', async (message: Ask) => {
  await carryOut(message);
  const { user, system } = process.cpuUsage();
  const answer: Answer = {
    refused: Object.fromEntries(refused),
    open,
    lost: Object.fromEntries(lost),
    failed: Object.fromEntries(failed),
    delaysUs: message.ask === 'report' ? delaysUs : [],
    lateUs: message.ask === 'report' ? lateUs : [],
    cpuMs: (user + system) / US_PER_MS,
  };
  process.send?.(answer);
});

// The benchmark is over, or died: the miners go without a word.
process.on('disconnect', () => process.exit(0));
