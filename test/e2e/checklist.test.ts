import { harness } from '../support/harness.ts';
import { testChecklist } from './checklist.ts';

await testChecklist(await harness());
