import type { HubClient } from './hub-client.ts';
import type { HeartbeatFrame, PendingCommand } from './types.ts';

/** What the server says to one heartbeat. */
export interface BeatReply {
  readonly lease_expires_at: string;
  readonly next_heartbeat_sec: number;
  /** Commands that came with the answer; over a WebSocket they come by themselves. */
  readonly commands: readonly PendingCommand[];
}

/** A way to send heartbeats with one session token. */
export interface HeartbeatChannel {
  /** Sends one heartbeat and waits for its answer; one at a time. @throws HubError, or SocketClosedError for what closed the channel */
  beat(frame: HeartbeatFrame): Promise<BeatReply>;
  close(): void;
}

/** Heartbeats as HTTP calls. */
export function httpChannel(client: HubClient, sessionToken: string): HeartbeatChannel {
  const controller = new AbortController();
  return {
    beat: (frame) => client.heartbeat(sessionToken, frame, { signal: controller.signal }),
    close: () => controller.abort(),
  };
}
