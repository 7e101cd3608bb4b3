import { harness } from '../support/harness.ts';
import { testChecklist } from './checklist.ts';

const h = await harness();
const cluster = await h.privateCluster();
await testChecklist(h, cluster.settings);
