import { testExactness } from '../support/exactness.ts';
import { worldCluster } from '../support/registry-world.ts';

await testExactness({ 'sixteen shards on a Redis Cluster': { shards: 16 } }, 40, worldCluster);
