import { setTimeout as sleep } from 'node:timers/promises';
import { runMain } from '../../src/platform/lifecycle.ts';
import { createLogger } from '../../src/platform/logger.ts';

/** A program for lifecycle.test.ts. Its first argument says how its service behaves. */
const [behaviour = 'proper'] = process.argv.slice(2);
const log = createLogger('info', behaviour);

async function start() {
  if (behaviour === 'fails-to-start') throw new Error('the disk is full');
  const alive = setInterval(() => {}, 1000);
  if (behaviour === 'breaks') setTimeout(() => process.emit('uncaughtException', new Error('a defect')), 10);
  log.info('started');
  return {
    async stop() {
      if (behaviour === 'fails-to-stop') throw new Error('a store is stuck');
      if (behaviour === 'hangs') await sleep(3_600_000);
      clearInterval(alive);
      log.info('stopped');
    },
  };
}

await runMain(start, log, 1);
