import { type BlockList, isIP } from 'node:net';

const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;
const WITH_PORT = /^(?:\[([^\]]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+)$/;

const IPV6_GROUPS = 8;
const NETWORK_GROUPS = 4;

/** What a request without a socket (in process) is told to come from; in no block, on no list. */
const NO_ADDRESS = 'unknown';

/**
 * The address of the client: that of the socket, unless it is a trusted proxy; then the rightmost address of X-Forwarded-For that is not a
 * trusted proxy. What stands left of it was written by strangers. An entry that is no address ends the walk at the hop before it.
 */
export function clientAddress(
  socketAddress: string | undefined,
  forwardedFor: string | undefined,
  trusted: BlockList,
): string {
  let address = normalise(socketAddress ?? '') ?? NO_ADDRESS;
  const hops = (forwardedFor ?? '').split(',');
  while (hops.length > 0 && isAddressIn(trusted, address)) {
    const hop = normalise((hops.pop() ?? '').trim());
    if (hop === undefined) break;
    address = hop;
  }
  return address;
}

/** Whether an address is in one of the blocks. IPv4 in IPv6 clothes (::ffff:10.0.0.1) is the IPv4 address. */
export function isAddressIn(blocks: BlockList, address: string): boolean {
  const plain = normalise(address);
  return plain !== undefined && blocks.check(plain, isIP(plain) === 4 ? 'ipv4' : 'ipv6');
}

/**
 * What counts as one client in a rate limit: an IPv4 address, or the /64 of an IPv6 address, because a single subscriber has all of it to
 * call from.
 */
export function networkOf(address: string): string {
  if (isIP(address) !== 6) return address;
  const [head = '', tail] = address.split('::');
  const left = groupsOf(head);
  const right = groupsOf(tail ?? '');
  const zeros = Array<string>(Math.max(0, IPV6_GROUPS - left.length - right.length)).fill('0');
  return `${[...left, ...zeros, ...right].slice(0, NETWORK_GROUPS).join(':')}::/64`;
}

function groupsOf(text: string): string[] {
  const groups = text.split(':').filter((group) => group !== '');
  // A dotted IPv4 tail stands for two groups; both are behind the network.
  return groups.flatMap((group) =>
    group.includes('.') ? ['0', '0'] : [Number.parseInt(group, 16).toString(16)],
  );
}

function normalise(text: string): string | undefined {
  const match = WITH_PORT.exec(text);
  const address = (match?.[1] ?? match?.[2] ?? text).toLowerCase();
  const plain = MAPPED_IPV4.exec(address)?.[1] ?? address;
  return isIP(plain) === 0 ? undefined : plain;
}
