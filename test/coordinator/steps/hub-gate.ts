import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';

/** A call to the pool hub that gets no answer. */
export interface CallHold {
  readonly path: string;
  // biome-ignore lint/suspicious/noExplicitAny: a body as it comes.
  readonly isIt: (body: any) => boolean;
}

export interface HubGate {
  readonly url: string;
  /** Stops such calls. @param arrives whether the hub gets them all the same, before they are stopped */
  add(hold: CallHold, arrives: boolean): void;
  reached(hold: CallHold): Promise<void>;
  /** Lets all calls through again. */
  end(): void;
}

/** Stands before a real hub: hands every call on, and keeps the answers of those that are held. */
export async function openHubGate(h: Harness, hubUrl: string): Promise<HubGate> {
  const holds = new Map<CallHold, { readonly arrives: boolean; stopped: ServerResponse | undefined }>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const found = [...holds].find(([hold]) => hold.path === request.url && hold.isIt(JSON.parse(text)));
    const forward = () =>
      fetch(hubUrl + request.url, {
        method: request.method ?? 'GET',
        headers: Object.entries(request.headers).filter(
          (entry): entry is [string, string] => typeof entry[1] === 'string' && !HOP_BY_HOP.has(entry[0]),
        ),
        ...(text === '' ? {} : { body: text }),
      });
    if (found !== undefined) {
      if (found[1].arrives) await (await forward()).text();
      found[1].stopped = response;
      return;
    }
    try {
      const answer = await forward();
      response.writeHead(answer.status, { 'Content-Type': 'application/json' }).end(await answer.text());
    } catch {
      response.destroy(); // As if the gate were not there: the caller sees a broken connection.
    }
  });
  return {
    url: await listenOn(h, server),
    add: (hold, arrives) => void holds.set(hold, { arrives, stopped: undefined }),
    reached: async (hold) =>
      void (await waitFor(() => holds.get(hold)?.stopped, {
        timeoutMs: 30_000,
        what: `${hold.path} at the hub`,
      })),
    end() {
      for (const { stopped } of holds.values()) stopped?.destroy();
      holds.clear();
    },
  };
}

/** Headers that are about the connection. */
const HOP_BY_HOP = new Set(['connection', 'host', 'content-length', 'transfer-encoding', 'keep-alive']);

async function listenOn(h: Harness, server: Server): Promise<string> {
  h.cleanup(() => {
    server.close();
    server.closeAllConnections();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
