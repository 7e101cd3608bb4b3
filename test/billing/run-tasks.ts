/** Runs the TASKS of the catalogue once, all at the same time. The process is there to be killed in the middle of them. */
import { openDeps } from '../../src/hub/deps.ts';
import { hubTasks } from '../../src/hub/tasks.ts';
import { loadConfig } from '../../src/platform/config.ts';
import { createLogger } from '../../src/platform/logger.ts';

const names = (process.env.TASKS ?? '').split(',');
const deps = openDeps(loadConfig(), createLogger('silent', 'tasks'));
const tasks = hubTasks({ ...deps, migrated: async () => {} }).filter(({ name }) => names.includes(name));
process.stdout.write('begun\n');
await Promise.all(tasks.map((task) => task.run(task.scheduled, Date.now())));
await deps.close();
