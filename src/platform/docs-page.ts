import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Hono } from 'hono';
import type { AppEnv } from './app-env.ts';
import { AppError } from './errors.ts';

/** The only files of Swagger UI that the page needs; nothing else in its folder is served. */
const ASSETS: Readonly<Record<string, string>> = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
};

const page = (title: string) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

/** In a file of its own, because the policy forbids scripts inside of the page. */
const START = `SwaggerUIBundle({ url: '/openapi.json', dom_id: '#page', deepLinking: true, validatorUrl: null });\n`;

/** Everything comes from here: no CDN, no inline script, no frame. Swagger UI draws its icons from data URLs. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const CACHE_SEC = 3600;

/** Serves /docs, where / leads: the OpenAPI document as a page, from the files of swagger-ui-dist. @param title plain text, without HTML marks */
export function docsPage(app: Hono<AppEnv>, title: string): void {
  const folder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));

  app.get('/', (c) => c.redirect('/docs'));
  app.get('/docs', (c) => c.html(page(title), 200, { 'Content-Security-Policy': POLICY }));
  app.get('/docs/start.js', (c) => c.body(START, 200, { 'Content-Type': 'text/javascript; charset=utf-8' }));
  app.get('/docs/:file', async (c) => {
    const file = c.req.param('file');
    const type = Object.hasOwn(ASSETS, file) ? ASSETS[file] : undefined;
    if (type === undefined) throw new AppError('not_found', 'no such file');
    const content = await readFile(join(folder, file));
    return c.body(content, 200, { 'Content-Type': type, 'Cache-Control': `public, max-age=${CACHE_SEC}` });
  });
}
