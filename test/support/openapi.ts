import assert from 'node:assert/strict';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

interface Operation {
  readonly requestBody?: object;
  readonly responses: Record<string, { headers?: Record<string, { required?: boolean }>; content?: object }>;
}

/** The part of an OpenAPI document that calls are held against. */
export interface OpenApiDocument {
  readonly paths: Record<string, Record<string, Operation>>;
}

/** One call as it was made. */
export interface Exchange {
  readonly method: string;
  /** With or without a query. */
  readonly path: string;
  /** The text that was sent, if any. */
  readonly body?: string | undefined;
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/**
 * Holds live calls against an OpenAPI document. For a documented call, the status must be listed, the answer must have the headers and
 * the schema of that status, and a body that was accepted must have the schema of the request.
 */
export function conformance(document: OpenApiDocument): (exchange: Exchange) => void {
  const ajv = new Ajv2020({ strict: false, allErrors: true, formats: { 'date-time': true } });
  ajv.addSchema(document, 'api');
  const compiled = new Map<string, ValidateFunction>();
  const check = (pointer: readonly string[], value: unknown, what: string) => {
    const ref = `api#/${pointer.map((part) => encodeURIComponent(part.replaceAll('/', '~1'))).join('/')}`;
    const valid = compiled.get(ref) ?? ajv.compile({ $ref: ref });
    compiled.set(ref, valid);
    assert.ok(valid(value), `${what} is not as documented: ${ajv.errorsText(valid.errors)}`);
  };
  const templates = Object.keys(document.paths).map((template) => ({
    template,
    regex: new RegExp(`^${template.replace(/\{[^}]+\}/g, '[^/]+')}$`),
  }));
  // A path without parameters stands before one that has some.
  templates.sort((a, b) => a.template.split('{').length - b.template.split('{').length);

  return ({ method, path, body, status, headers, text }) => {
    const plainPath = path.split('?')[0] ?? '';
    const template = templates.find(({ regex }) => regex.test(plainPath))?.template ?? '';
    const verb = method.toLowerCase();
    const operation = document.paths[template]?.[verb];
    const name = `${method} ${template} ${status}`;
    if (operation === undefined) {
      assert.ok(status >= 400 || template === '', `${method} ${path} is not documented: ${status}`);
      return;
    }
    const response = operation.responses[status];
    assert.ok(response, `${name} is not documented: ${text}`);
    for (const [header, { required }] of Object.entries(response.headers ?? {})) {
      assert.ok(headers.has(header) || required !== true, `${name} has no ${header}`);
    }
    const at = ['paths', template, verb];
    if (response.content === undefined) assert.equal(text, '', `${name} is documented without a body`);
    else {
      const type = (headers.get('Content-Type') ?? '').split(';')[0] ?? '';
      const answer = type === 'application/json' ? JSON.parse(text) : text;
      check([...at, 'responses', String(status), 'content', type, 'schema'], answer, name);
    }
    if (status < 300 && operation.requestBody !== undefined && body !== undefined) {
      const sent: unknown = JSON.parse(body);
      check([...at, 'requestBody', 'content', 'application/json', 'schema'], sent, `the body of ${name}`);
    }
  };
}
