import { readFileSync } from 'node:fs';

/** Descriptors of a hub beside its miners: stores, listeners, HTTP connections of those that register and match. */
const OTHER_DESCRIPTORS = 100;
/** Ports of this machine that others use meanwhile, and those of the registrations. */
const OTHER_PORTS = 500;
/** Linux: the first and the last port of outgoing connections. */
const PORT_RANGE_FILE = '/proc/sys/net/ipv4/ip_local_port_range';

/** How many miners fit, and which limit of the machine keeps out the rest. */
export interface Room {
  readonly miners: number;
  /** For people; null when all fit. */
  readonly limitedBy: string | null;
}

/**
 * Every socket takes a file descriptor of the hub, and one of the ports that connections to one address may start from. This process hands its
 * limits down to the hub. A limit that cannot be read counts as none.
 */
export function roomFor(miners: number): Room {
  const files = openFilesLimit();
  const ports = outgoingPorts();
  const limits = [
    {
      most: files - OTHER_DESCRIPTORS,
      why: `a process may open ${files} files (ulimit -n), and the hub needs ${OTHER_DESCRIPTORS} beside its sockets`,
    },
    {
      most: ports - OTHER_PORTS,
      why: `connections to one address have ${ports} ports (net.ipv4.ip_local_port_range), of which others need some`,
    },
  ];
  const tightest = limits.reduce((a, b) => (b.most < a.most ? b : a));
  if (tightest.most >= miners) return { miners, limitedBy: null };
  return { miners: Math.max(1, tightest.most), limitedBy: tightest.why };
}

/** Node lifts the soft limit to the hard one when it starts. */
function openFilesLimit(): number {
  const { userLimits } = process.report.getReport() as {
    userLimits?: { open_files?: { soft?: number | string } };
  };
  const soft = Number(userLimits?.open_files?.soft);
  return Number.isFinite(soft) ? soft : Number.POSITIVE_INFINITY;
}

function outgoingPorts(): number {
  try {
    const [first = Number.NaN, last = Number.NaN] = readFileSync(PORT_RANGE_FILE, 'utf8')
      .trim()
      .split(/\s+/)
      .map(Number);
    return Number.isFinite(last - first) ? last - first + 1 : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY; // Not on this system.
  }
}
