import type { Redis } from 'ioredis';

/** Processor time that a Redis server has taken so far, ms, in user and kernel; NaN when it does not tell. */
export async function redisCpuMs(node: Redis): Promise<number> {
  const info = await node.info('cpu');
  const seconds = (field: string) => Number(new RegExp(`^${field}:([\\d.]+)`, 'm').exec(info)?.[1]);
  return (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1000;
}
