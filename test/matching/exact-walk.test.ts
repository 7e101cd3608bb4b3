import { testExactness } from '../support/exactness.ts';
import { TINY_WALK } from '../support/registry-world.ts';

await testExactness(
  {
    'one shard, tiny walk limits': { walk: TINY_WALK },
    'three shards, tiny walk limits': { shards: 3, walk: TINY_WALK },
  },
  510,
);
