import { type openPostgres, privatePostgres } from '../../src/embedded/postgres.ts';
import { privateRedis } from '../../src/embedded/redis.ts';

/**
 * Starts both stores, says where, and holds them until it is told to stop: a program for tests to kill.
 * Argument: JSON of the options of both finders; without dataDir their data is temporary.
 */
const options = JSON.parse(process.argv[2] ?? '{}') as { dataDir?: string } & Pick<
  Parameters<typeof openPostgres>[0],
  'systemFolders' | 'sharedFolders'
>;
const { dataDir, ...search } = options;
const folderOf = (name: string) => (dataDir === undefined ? undefined : `${dataDir}/${name}`);
const redis = await privateRedis({ env: process.env, say: console.error, dataDir: folderOf('redis') });
const postgres = await privatePostgres({ env: process.env, ...search, dataDir: folderOf('postgres') });
process.once('SIGTERM', () => Promise.all([redis.dispose(), postgres.dispose()]).then(() => process.exit(0)));
const { source } = postgres;
console.log(
  `HOLDING ${JSON.stringify({ pids: [redis.pid(), postgres.pid()], url: redis.url, dsn: postgres.dsn, source })}`,
);
