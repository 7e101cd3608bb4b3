import assert from 'node:assert/strict';
import { test } from 'node:test';
import { normaliseGpuName, normaliseProfile, type ProfileInput } from '../../../src/hub/miners/profile.ts';
import { newSession, readSession } from '../../../src/hub/miners/session.ts';

const INPUT: ProfileInput = {
  addr: 'a:1',
  proto: 'grpc',
  max_parallel: 1,
  base_price: '1',
  tags: [],
  capabilities: [],
};

const accelOf = (change: Partial<ProfileInput>) => normaliseProfile({ ...INPUT, ...change }, 'global').accel;

test('derives the accelerator from names that are told, else from the family of the GPU, else cpu', () => {
  const families: [string, string][] = [
    ['NVIDIA GeForce RTX 4090', 'cuda'],
    ['NVIDIA H100 80GB HBM3', 'cuda'],
    ['Tesla T4', 'cuda'],
    ['A100-SXM4-80GB', 'cuda'],
    ['AMD Radeon RX 7900 XTX', 'rocm'],
    ['AMD Instinct MI300X', 'rocm'],
    ['Apple M2 Ultra', 'metal'],
    ['Some Card', 'cpu'],
    ['', 'cpu'],
  ];
  for (const [gpu_name, accel] of families) assert.deepEqual(accelOf({ gpu_name }), [accel], gpu_name);
  assert.deepEqual(accelOf({ gpu_name: 'Some Card', tags: ['Vulkan'] }), ['vulkan']);
  assert.deepEqual(accelOf({ gpu_name: 'Some Card', capabilities: ['rocm'], tags: ['cuda'] }), [
    'cuda',
    'rocm',
  ]);
  assert.deepEqual(accelOf({ gpu_name: 'RTX 4090', accel: ['CUDA', 'cuda', 'opencl'] }), ['cuda', 'opencl']);
});

test('takes the region from the field, else a tag, else the default; in lower case', () => {
  const regionOf = (change: Partial<ProfileInput>) =>
    normaliseProfile({ ...INPUT, ...change }, 'global').region;
  assert.equal(regionOf({ region: 'EU-West', tags: ['region:us'] }), 'eu-west');
  assert.equal(regionOf({ tags: ['x', 'region:us-east'] }), 'us-east');
  assert.equal(regionOf({ tags: ['region:'] }), 'global');
  assert.equal(
    regionOf({ tags: ['region:são paulo', 'region:sa'] }),
    'sa',
    'one that nobody could ask for is none',
  );
});

test('compares GPUs without the words of the vendor', () => {
  assert.equal(normaliseGpuName('NVIDIA  GeForce RTX 4090'), 'rtx 4090');
  assert.equal(normaliseGpuName('rtx 4090'), 'rtx 4090');
  assert.equal(normaliseGpuName('NVIDIA'), 'nvidia');
  assert.equal(normaliseGpuName(''), '');
});

test('drops duplicates and keeps unknown sizes unknown', () => {
  const profile = normaliseProfile({ ...INPUT, tags: ['a', 'a'], capabilities: ['b', 'b'] }, 'global');
  assert.deepEqual([profile.tags, profile.capabilities], [['a'], ['b']]);
  assert.deepEqual([profile.gpu_vram_gb, profile.ram_gb, profile.gpu_count], ['', '', 0]);
});

test('a session token names its miner and nothing else reads as one', () => {
  const { token, digest } = newSession('rig-1:a.b_C');
  assert.deepEqual(readSession(token), { minerId: 'rig-1:a.b_C', digest });
  assert.notEqual(newSession('rig-1').token, newSession('rig-1').token);
  for (const wrong of ['', 'phs_', `${token}x`, token.slice(4), `phs_${'A'.repeat(90)}.${'A'.repeat(43)}`]) {
    assert.equal(readSession(wrong), undefined, wrong);
  }
  const spaced = `phs_${Buffer.from('a b').toString('base64url')}.${'A'.repeat(43)}`;
  assert.equal(readSession(spaced), undefined, 'an id with a space');
});
