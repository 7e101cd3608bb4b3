import { migrateDatabase } from '../../platform/migrate.ts';
import { defineCommand } from '../command.ts';
import { CommandError } from '../errors.ts';

export const migrate = defineCommand({
  name: 'migrate',
  summary:
    'Brings the database of DB_DSN to the newest schema. Any number may run at once: one migrates, the others wait.',
  options: {},
  async run(_input, terminal) {
    const dsn = terminal.env.DB_DSN;
    if (!dsn) throw new CommandError('DB_DSN is required');
    if (!/^postgres(ql)?:\/\//.test(dsn)) throw new CommandError('DB_DSN must start with postgresql://');
    await migrateDatabase(dsn);
    terminal.out('The database has the newest schema.');
    return 0;
  },
});
