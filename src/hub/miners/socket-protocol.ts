import { AppError, toAppError } from '../../platform/errors.ts';
import type { HubDeps } from '../deps.ts';
import { COMMANDS_BESIDE } from './commands.ts';
import type { MinerClaim } from './credentials.ts';
import { heartbeat } from './heartbeat.ts';
import { CLOSE, type MinerSocket } from './socket-connection.ts';
import { ackFrame, commandFrame, errorFrame, type RawFrame, readFrame } from './socket-frames.ts';
import type { Lease, PendingCommand } from './types.ts';

/** Refused frames in a row that end a connection. */
const MAX_BAD_FRAMES = 3;

type ProtocolDeps = Pick<HubDeps, 'config' | 'log' | 'metrics' | 'miners'>;

/**
 * What hub and miner say to each other over a socket, and who holds which. A miner has one socket per replica: the newest
 * whose session the registry accepted.
 */
export class SocketProtocol {
  readonly #deps: ProtocolDeps;
  readonly #sockets = new Map<string, MinerSocket>();
  /** Counts notices, so that a new socket can tell whether one came before it could be found. */
  #notices = 0;

  constructor(deps: ProtocolDeps) {
    this.#deps = deps;
  }

  /** Has the registry prove the claim of a new socket; that also renews the lease and brings the commands that wait. */
  async greet(socket: MinerSocket, claim: MinerClaim): Promise<void> {
    const noticesBefore = this.#notices;
    try {
      const result = await this.#deps.miners.renew(claim.minerId, claim.credential);
      if (result.status === 'session_unknown') {
        socket.finish(CLOSE.session_unknown, 'session unknown or expired');
        return;
      }
      this.#granted(socket, claim, result);
      this.#deliver(socket, result.commands);
    } catch (error) {
      // The socket stays: its first heartbeat proves the claim as well.
      this.#refuse(socket, error);
      return;
    }
    if (this.#notices !== noticesBefore) await this.#check(socket, claim);
  }

  /** Works on one frame. The third bad one in a row closes the socket. */
  async answer(socket: MinerSocket, claim: MinerClaim, frame: RawFrame): Promise<void> {
    let payload: ReturnType<typeof readFrame>;
    try {
      payload = readFrame(frame);
    } catch (error) {
      socket.badFrames += 1;
      this.#refuse(socket, error);
      if (socket.badFrames >= MAX_BAD_FRAMES) socket.finish(CLOSE.bad_frames, 'three bad frames in a row');
      return;
    }
    socket.badFrames = 0;
    try {
      const { lease, commands } = await heartbeat(this.#deps, claim, payload, 'ws');
      this.#granted(socket, claim, lease);
      socket.say(ackFrame(payload, lease));
      this.#deliver(socket, commands);
    } catch (error) {
      if (error instanceof AppError && error.code === 'session_unknown') {
        await this.#endSession(socket, claim);
        return;
      }
      // It is not the miner's fault that the registry is away: its connection lives on.
      socket.prolong();
      this.#refuse(socket, error);
    }
  }

  /** Something happened to a miner: a command, another session, its removal. */
  noticed(minerId: string): void {
    this.#notices += 1;
    const socket = this.#sockets.get(minerId);
    if (socket?.claim !== undefined) void this.#check(socket, socket.claim);
  }

  /** A socket is gone. */
  forget(socket: MinerSocket): void {
    const minerId = socket.claim?.minerId;
    if (minerId !== undefined && this.#sockets.get(minerId) === socket) this.#sockets.delete(minerId);
  }

  #granted(socket: MinerSocket, { minerId }: MinerClaim, lease: Lease): void {
    // Lengths, not times: the clocks of Redis and of this process need not agree.
    socket.prolong(lease.leaseUntilMs - lease.nowMs);
    if (socket.proven || !socket.isOpen) return;
    socket.proven = true;
    this.#sockets.get(minerId)?.finish(CLOSE.replaced, 'replaced by a newer connection');
    this.#sockets.set(minerId, socket);
  }

  /** Asks the registry whose session counts and what waits. Notices that come meanwhile make one more round. */
  async #check(socket: MinerSocket, claim: MinerClaim): Promise<void> {
    if (socket.checking) {
      socket.checkAgain = true;
      return;
    }
    socket.checking = true;
    try {
      do {
        socket.checkAgain = false;
        if (!(await this.#holdsSession(socket, claim))) return;
        const most = this.#deps.config.commands_max_pending + COMMANDS_BESIDE;
        this.#deliver(socket, await this.#deps.miners.pendingCommands(claim.minerId, most));
      } while (socket.checkAgain && socket.isOpen);
    } catch (error) {
      // Nothing is lost: the next heartbeat brings what waits, or the news of the session.
      this.#cannotLook(socket, error);
    } finally {
      socket.checking = false;
    }
  }

  /** Whether the registry still has this session; closes the socket when it has another, or none. */
  async #holdsSession(socket: MinerSocket, { minerId, credential }: MinerClaim): Promise<boolean> {
    const session = (await this.#deps.miners.get(minerId))?.session;
    if (session === credential.digest) return true;
    if (session === undefined) socket.finish(CLOSE.session_unknown, 'session unknown or expired');
    else socket.finish(CLOSE.replaced, 'replaced by a newer session');
    return false;
  }

  /**
   * The registry refused a heartbeat. A socket that never was accepted learns nothing of the miner that it named; one that was is told
   * whether a newer session took over.
   */
  async #endSession(socket: MinerSocket, claim: MinerClaim): Promise<void> {
    try {
      if (socket.proven) await this.#holdsSession(socket, claim);
    } catch (error) {
      this.#cannotLook(socket, error);
    }
    socket.finish(CLOSE.session_unknown, 'session unknown or expired');
  }

  #cannotLook(socket: MinerSocket, error: unknown): void {
    const level = toAppError(error).code === 'unavailable' ? 'debug' : 'error';
    this.#deps.log[level]({ request_id: socket.requestId, err: error }, 'cannot look who holds the session');
  }

  #deliver(socket: MinerSocket, commands: readonly PendingCommand[]): void {
    socket.deliver(commands.map(commandFrame));
  }

  #refuse(socket: MinerSocket, thrown: unknown): void {
    const error = toAppError(thrown);
    if (error.code === 'internal') {
      this.#deps.log.error({ request_id: socket.requestId, err: thrown }, 'heartbeat failed');
    }
    socket.say(errorFrame(error, socket.requestId));
  }
}
