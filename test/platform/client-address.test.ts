import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clientAddress, isAddressIn, networkOf } from '../../src/platform/client-address.ts';
import { addressSet } from '../../src/platform/settings.ts';

const PROXIES = addressSet([
  { address: '10.0.0.0', prefix: 8, family: 'ipv4' },
  { address: 'fd00::', prefix: 8, family: 'ipv6' },
]);

const CASES: ReadonlyArray<
  readonly [what: string, socket: string | undefined, forwarded: string | undefined, client: string]
> = [
  ['no proxy', '203.0.113.9', undefined, '203.0.113.9'],
  ['a stranger may write what he likes', '203.0.113.9', '1.1.1.1', '203.0.113.9'],
  ['one trusted proxy', '10.0.0.1', '198.51.100.7', '198.51.100.7'],
  ['what the client wrote itself is left of it', '10.0.0.1', '1.1.1.1, 198.51.100.7', '198.51.100.7'],
  ['a chain of trusted proxies', '10.0.0.1', '198.51.100.7, 10.0.0.3, 10.0.0.2', '198.51.100.7'],
  ['only proxies', '10.0.0.1', '10.0.0.2', '10.0.0.2'],
  ['no header from a proxy', '10.0.0.1', undefined, '10.0.0.1'],
  ['garbage ends the walk', '10.0.0.1', '198.51.100.7, garbage', '10.0.0.1'],
  ['IPv4 in IPv6 clothes', '::ffff:10.0.0.1', '::ffff:198.51.100.7', '198.51.100.7'],
  ['IPv6 throughout', 'fd00::1', '2001:db8::7', '2001:db8::7'],
  ['ports are cut off', '10.0.0.1', '198.51.100.7:4711', '198.51.100.7'],
  ['IPv6 with a port', '10.0.0.1', '[2001:db8::7]:4711', '2001:db8::7'],
  ['no socket', undefined, '198.51.100.7', 'unknown'],
];

for (const [what, socket, forwarded, client] of CASES) {
  test(what, () => assert.equal(clientAddress(socket, forwarded, PROXIES), client));
}

test('an address that is none is in no block', () => {
  assert.equal(isAddressIn(PROXIES, 'unknown'), false);
  assert.equal(isAddressIn(PROXIES, '::ffff:10.1.2.3'), true);
  assert.equal(isAddressIn(PROXIES, 'FD00::5'), true);
});

test('limits count an IPv4 address, and the /64 of an IPv6 address', () => {
  assert.equal(networkOf('203.0.113.9'), '203.0.113.9');
  assert.equal(networkOf('unknown'), 'unknown');
  for (const same of [
    '2001:db8::1',
    '2001:db8::ffff:1',
    '2001:0db8:0:0:9::',
    '2001:db8:0:0:1:2:3:4',
    '2001:db8::1:1.2.3.4',
  ]) {
    assert.equal(networkOf(same), '2001:db8:0:0::/64', same);
  }
  assert.equal(networkOf('2001:db8:0:1::1'), '2001:db8:0:1::/64');
  assert.equal(networkOf('::1'), '0:0:0:0::/64');
});
