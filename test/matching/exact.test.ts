import { testExactness } from '../support/exactness.ts';

await testExactness({ 'one shard': {}, 'three shards': { shards: 3 } }, 510);
