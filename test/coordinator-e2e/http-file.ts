/** A request of an .http file. */
export interface HttpExample {
  readonly title: string;
  /** Under which later requests refer to its answer. */
  readonly name: string | undefined;
  /** What its title says it is answered with. */
  readonly status: number;
  /** The request, with what it takes from the answers before it. */
  resolve(answers: ReadonlyMap<string, string>): ResolvedRequest;
}

interface ResolvedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** Reads the format of the REST Client extension as far as the examples use it. @throws Error for what it does not understand */
export function readExamples(text: string, env: Readonly<Record<string, string>>): HttpExample[] {
  const [head = '', ...parts] = text.split(/^### /m);
  const variables = new Map<string, string>();
  for (const [, name = '', source = ''] of head.matchAll(/^@(\w+) = \{\{\$processEnv (\w+)\}\}$/gm)) {
    variables.set(name, env[source] ?? fail(`${source} is not set`));
  }
  return parts.map((part) => readExample(part, variables));
}

function readExample(part: string, variables: ReadonlyMap<string, string>): HttpExample {
  const [title = '', ...lines] = part.split('\n');
  const status = Number(
    /; answers (\d{3})$/.exec(title)?.[1] ?? fail(`"${title}" does not say what it answers`),
  );
  const name = lines.map((line) => /^# @name (\w+)$/.exec(line)?.[1]).find((found) => found !== undefined);
  const source = lines.filter((line) => !line.startsWith('#')).join('\n');
  const resolve = (answers: ReadonlyMap<string, string>) => {
    const filled = source.replaceAll(/\{\{([^{}]+)\}\}/g, (_, reference: string) =>
      lookUp(reference, variables, answers),
    );
    const [top = '', ...rest] = filled.split('\n\n');
    const [first = '', ...headerLines] = top.split('\n').filter((line) => line !== '');
    const [method = '', path = ''] = first.split(' ');
    const headers = Object.fromEntries(headerLines.map((line) => line.split(': ') as [string, string]));
    return { method, path, headers, body: rest.join('\n\n').trim() };
  };
  return { title, name, status, resolve };
}

function lookUp(
  reference: string,
  variables: ReadonlyMap<string, string>,
  answers: ReadonlyMap<string, string>,
): string {
  const [, request = '', member] = /^(\w+)\.response\.body\.(?:\*|\$\.(\w+))$/.exec(reference) ?? [];
  if (request === '') return variables.get(reference) ?? fail(`{{${reference}}} is unknown`);
  const answer = answers.get(request) ?? fail(`{{${reference}}}: no such answer`);
  return member === undefined ? answer : String(JSON.parse(answer)[member]);
}

function fail(message: string): never {
  throw new Error(message);
}
