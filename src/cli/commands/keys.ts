import * as v from 'valibot';
import { createKey, type KeyInfo, listKeys, revokeKey } from '../../hub/miners/enrollment.ts';
import { MinerId } from '../../hub/miners/schema.ts';
import { defineCommand } from '../command.ts';
import { CommandError, UsageError } from '../errors.ts';
import { withStores } from '../stores.ts';
import { formatTable } from '../table.ts';

const PAGE = 500;

const json = { type: 'boolean', help: 'print JSON' } as const;
const SETTINGS_NOTE =
  'Works on the stores themselves, with the settings of the hub (DB_DSN, REDIS_URL, ...).';

export const keysCreate = defineCommand({
  name: 'keys create',
  summary:
    'Enrolls a miner and prints its key, once. An enrolled miner gets another key; its old one stops working.',
  positionals: ['miner_id'],
  options: { json },
  notes: SETTINGS_NOTE,
  async run({ values, positionals }, terminal) {
    const miner_id = checkedId(positionals[0]);
    const { api_key, created } = await withStores(terminal, (deps) => createKey(deps, miner_id));
    if (values.json) {
      terminal.out(JSON.stringify({ miner_id, api_key, created }));
      return 0;
    }
    terminal.note(`${created ? 'Enrolled' : 'Another key for'} ${miner_id}. The key is not stored, keep it:`);
    terminal.out(api_key);
    return 0;
  },
});

export const keysRevoke = defineCommand({
  name: 'keys revoke',
  summary: 'Voids the key of a miner and takes the miner out of the registry.',
  positionals: ['miner_id'],
  options: { json },
  notes: SETTINGS_NOTE,
  async run({ values, positionals }, terminal) {
    const miner_id = checkedId(positionals[0]);
    const revoked = await withStores(terminal, (deps) => revokeKey(deps, miner_id));
    if (!revoked) throw new CommandError(`${miner_id} has no key that works`);
    terminal.out(values.json ? JSON.stringify({ miner_id, revoked }) : `The key of ${miner_id} is void.`);
    return 0;
  },
});

export const keysList = defineCommand({
  name: 'keys list',
  summary: 'Lists the enrolled miners; never their keys.',
  options: { json },
  notes: `With --json, one object per line. ${SETTINGS_NOTE}`,
  async run({ values }, terminal) {
    await withStores(terminal, async (deps) => {
      let page: KeyInfo[] = [];
      do {
        const after = page.at(-1)?.miner_id;
        page = await listKeys(deps, { limit: PAGE, ...(after === undefined ? {} : { afterMinerId: after }) });
        if (values.json) for (const key of page) terminal.out(JSON.stringify(key));
        else if (page.length > 0) terminal.out(keyTable(page));
      } while (page.length === PAGE);
    });
    return 0;
  },
});

function keyTable(keys: readonly KeyInfo[]): string {
  return formatTable(
    ['MINER', 'KEY', 'CREATED', 'REVOKED'],
    keys.map(({ miner_id, active, key_created_at, key_revoked_at }) => [
      miner_id,
      active ? 'active' : 'none',
      key_created_at ?? '-',
      key_revoked_at ?? '-',
    ]),
  );
}

function checkedId(text: string | undefined): string {
  const parsed = v.safeParse(MinerId, text);
  if (!parsed.success) throw new UsageError(`<miner_id> ${parsed.issues[0].message}`);
  return parsed.output;
}
