import { HeartbeatSocket } from '../../src/sdk/heartbeat-socket.ts';
import type { Measured } from './http-load.ts';
import type { HubUnderLoad } from './hub-process.ts';
import { Latency } from './latency.ts';

const TIMEOUT_MS = 10_000;

/**
 * Heartbeats over WebSocket, one miner to a connection, each with one heartbeat under way; connecting is not measured.
 * @throws Error when one is not answered
 */
export async function measureSocketBeats(
  { url, sessions }: HubUnderLoad,
  { connections, seconds }: { connections: number; seconds: number },
): Promise<Measured> {
  const { signal } = new AbortController();
  const sockets: HeartbeatSocket[] = [];
  try {
    for (const { sessionToken } of sessions.slice(0, connections)) {
      const handlers = { onCommand: () => {}, onClose: () => {} };
      sockets.push(
        await HeartbeatSocket.open({ url, sessionToken, timeoutMs: TIMEOUT_MS, signal, ...handlers }),
      );
    }
    const latency = new Latency();
    const startedMs = performance.now();
    const endMs = startedMs + seconds * 1000;
    await Promise.all(sockets.map((socket) => beatUntil(socket, endMs, latency)));
    return { perSec: (latency.count * 1000) / (performance.now() - startedMs), latency };
  } finally {
    for (const socket of sockets) socket.close();
  }
}

async function beatUntil(socket: HeartbeatSocket, endMs: number, latency: Latency): Promise<void> {
  for (let n = 0; ; n += 1) {
    const sentMs = performance.now();
    if (sentMs >= endMs) return;
    await socket.beat({ queue_len: n % 3, busy: false, avg_latency_ms: 40 + 5 * (n % 4), temp_c: 60 });
    latency.record(performance.now() - sentMs);
  }
}
