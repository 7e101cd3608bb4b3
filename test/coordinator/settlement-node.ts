import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Harness } from '../support/harness.ts';

export interface NodeCall {
  readonly step: 'create' | 'release' | 'refund';
  readonly jobId: string;
  readonly body: Record<string, unknown>;
  readonly idempotencyKey: string | undefined;
}

/** Answers a call in place of the ledger; `accept` does what the ledger would do and gives its answer. */
export type Mischief = (
  call: NodeCall,
  response: ServerResponse,
  accept: () => readonly [status: number, body: unknown],
) => void;

export interface TestNode {
  readonly url: string;
  readonly calls: NodeCall[];
  /** State of the escrow of each job, as the node has it. */
  readonly escrows: Map<string, 'held' | 'released' | 'refunded'>;
  /** Times that money moved, by `<job>:<step>`. */
  readonly moves: Map<string, number>;
  /** Most calls of one job that were under way at once. */
  readonly mostAtOnce: () => number;
  /** Replaces what answers; undefined lets the ledger answer. */
  misbehave(mischief: Mischief | undefined): void;
}

const STATE_AFTER = { create: 'held', release: 'released', refund: 'refunded' } as const;

/** A chain node that keeps a ledger, is idempotent by job, and misbehaves on demand. */
export async function startNode(h: Harness): Promise<TestNode> {
  const calls: NodeCall[] = [];
  const escrows: TestNode['escrows'] = new Map();
  const moves = new Map<string, number>();
  const underWay = new Map<string, number>();
  let most = 0;
  let mischief: Mischief | undefined;

  const ledger = ({ step, jobId }: NodeCall): readonly [number, unknown] => {
    const held = escrows.get(jobId);
    if (step !== 'create' && held === undefined) return [404, { error: 'no such escrow' }];
    const wanted = STATE_AFTER[step];
    if (held === wanted || (step === 'create' && held !== undefined))
      return [200, { job_id: jobId, state: held }];
    if (held !== undefined && held !== 'held') return [409, { error: 'settled otherwise', state: held }];
    escrows.set(jobId, wanted);
    moves.set(`${jobId}:${step}`, (moves.get(`${jobId}:${step}`) ?? 0) + 1);
    return [200, { job_id: jobId, state: wanted }];
  };

  const server = createServer(async (request, response) => {
    const call = await readCall(request);
    calls.push(call);
    const now = (underWay.get(call.jobId) ?? 0) + 1;
    underWay.set(call.jobId, now);
    most = Math.max(most, now);
    response.on('close', () => underWay.set(call.jobId, (underWay.get(call.jobId) ?? 1) - 1));
    if (mischief !== undefined) mischief(call, response, () => ledger(call));
    else answer(response, ...ledger(call));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  h.cleanup(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    escrows,
    moves,
    mostAtOnce: () => most,
    misbehave: (next) => {
      mischief = next;
    },
  };
}

export function answer(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

async function readCall(request: IncomingMessage): Promise<NodeCall> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = JSON.parse(Buffer.concat(chunks).toString());
  const [, escrow, step] =
    /^\/rpc\/escrow\/(?:([^/]+)\/)?(create|release|refund)$/.exec(request.url ?? '') ?? [];
  return {
    step: step as NodeCall['step'],
    jobId: escrow ?? body.job_id,
    body,
    idempotencyKey: request.headers['idempotency-key']?.toString(),
  };
}
