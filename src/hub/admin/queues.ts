import type { Hono, MiddlewareHandler } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { createIdentify } from '../../platform/auth.ts';
import { AppError, envelope } from '../../platform/errors.ts';
import type { Queues } from '../../platform/queues.ts';
import type { HubDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';

const PATH = '/admin/queues';

/** bull-board asks for its fonts at a foreign server: it does without, and the policy refuses whatever else is foreign. */
const FOREIGN = /<link[^>]+href="https?:[^>]*>/g;
const POLICY =
  "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'";

/** Serves bull-board: the tasks of all queues, to look at and to try again. For administrators. */
export function queueRoutes(
  app: Hono<AppEnv>,
  deps: HubDeps,
  { limit }: Guards,
  queues: () => Promise<Queues>,
): void {
  const guard = boardGuard(deps);
  let board: Promise<Hono> | undefined;
  const open = () => {
    board ??= import('./board.ts').then(async ({ createBoard }) => createBoard(await queues(), PATH));
    return board;
  };
  app.get(`${PATH}/`, (c) => c.redirect(PATH, 308));
  for (const path of [PATH, `${PATH}/*`]) {
    app.all(path, guard, limit('default'), async (c) => {
      const inner = await (await open()).fetch(c.req.raw);
      const isPage = inner.headers.get('Content-Type')?.includes('text/html') === true;
      const answer = isPage
        ? c.html((await inner.text()).replace(FOREIGN, ''))
        : new Response(inner.body, inner);
      // On scripts too: the board loads one as a worker, which goes by its own policy and not by that of the page.
      answer.headers.set('Content-Security-Policy', POLICY);
      return answer;
    });
  }
}

/**
 * A browser cannot send our header for a page, so here the admin key may also be the password of Basic authentication.
 * What a browser does by itself for another site is refused, because it would send the password along.
 */
function boardGuard({ config }: HubDeps): MiddlewareHandler<AppEnv> {
  const identify = createIdentify(config);
  return async (c, next) => {
    const authorization = c.req.header('Authorization');
    const password = basicPassword(authorization);
    const header = (name: string) =>
      name === 'Authorization' && password !== undefined ? `Bearer ${password}` : c.req.header(name);
    try {
      c.set('caller', identify(c.get('address'), header, ['admin']));
    } catch (error) {
      if (!(error instanceof AppError && error.code === 'unauthenticated')) throw error;
      const challenge = { 'WWW-Authenticate': 'Basic realm="Pool Hub", charset="UTF-8"' };
      return c.json(envelope(error, c.get('requestId')), error.status, challenge);
    }
    const site = c.req.header('Sec-Fetch-Site') ?? 'none';
    if (c.req.method !== 'GET' && !['same-origin', 'none'].includes(site)) {
      throw new AppError('forbidden', 'not from another site');
    }
    return next();
  };
}

function basicPassword(authorization: string | undefined): string | undefined {
  const encoded = /^Basic +([A-Za-z0-9+/=]+)\s*$/i.exec(authorization ?? '')?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  return text.slice(text.indexOf(':') + 1);
}
