import type { ScalePoint } from '../scale/run.ts';

const WIDTH = 860;
const HEIGHT = 520;
/** Around the plotting area; the names of the lines stand at the right. */
const MARGIN = { top: 64, right: 110, bottom: 84, left: 84 } as const;
const LABEL_GAP = 15;

/** Okabe and Ito's colours, which people with any colour vision tell apart, on light and on dark. */
const COLOURS = [
  { light: '#0072b2', dark: '#56b4e9' },
  { light: '#b35900', dark: '#e69f00' },
  { light: '#00785a', dark: '#2fc49a' },
] as const;

/**
 * The scale curve with both axes logarithmic, so that a power law is a straight line: server time of a match over miners, one line for
 * each number of shards, and a dashed one for cost in proportion to the miners. A picture that needs nothing else and follows the
 * reader's light or dark.
 * @param caption plain text under the plot
 */
export function scalePlot(points: readonly ScalePoint[], exponent: number | null, caption: string): string {
  const x = logScale(
    points.map(({ miners }) => miners),
    MARGIN.left,
    WIDTH - MARGIN.right,
  );
  const y = logScale(
    points.map(({ server_us }) => server_us),
    HEIGHT - MARGIN.bottom,
    MARGIN.top,
  );
  const shardCounts = [...new Set(points.map(({ shards }) => shards))];
  const series = shardCounts.map((shards) => points.filter((point) => point.shards === shards));
  const growth = exponent === null ? '' : `; in one shard a match costs as miners^${exponent}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="13">
<title>Server time of a match over miners, for ${shardCounts.join(', ')} shards</title>
<style>${styles()}</style>
<rect class="paper" width="100%" height="100%"/>
<text x="${MARGIN.left}" y="28" font-size="17" font-weight="600">Server time of one match, all shards together</text>
<text class="soft" x="${MARGIN.left}" y="48">median of 13 kinds of requests${growth}</text>
${grid(x, y)}
${proportion(series[0] ?? [], x, y)}
${series.map((line, i) => curve(line, i, x, y)).join('\n')}
${endLabels(series, x, y)}
<text x="${(x.from + x.to) / 2}" y="${HEIGHT - 38}" text-anchor="middle">miners (logarithmic)</text>
<text transform="translate(24 ${(y.from + y.to) / 2}) rotate(-90)" text-anchor="middle">microseconds (logarithmic)</text>
<text class="soft" x="${MARGIN.left}" y="${HEIGHT - 12}" font-size="11">${escapeXml(caption)}</text>
</svg>
`;
}

interface Scale {
  readonly from: number;
  readonly to: number;
  readonly ticks: readonly number[];
  at(value: number): number;
}

/** Covers the values, and ends at a tick: 1, 2 or 5 times a power of ten, or 1 and 3 where there are many decades. */
function logScale(values: readonly number[], from: number, to: number): Scale {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const ticks = ticksAround(least, most);
  const [first, last] = [Math.log(ticks[0] as number), Math.log(ticks.at(-1) as number)];
  const at = (value: number) => round(from + ((Math.log(value) - first) / (last - first)) * (to - from));
  return { from, to, ticks, at };
}

function ticksAround(least: number, most: number): number[] {
  const decades = Math.log10(most / least);
  const steps = decades > 1.2 ? [1, 3] : [1, 2, 5];
  const all: number[] = [];
  for (let power = Math.floor(Math.log10(least)) - 1; power <= Math.ceil(Math.log10(most)) + 1; power += 1) {
    all.push(...steps.map((step) => step * 10 ** power));
  }
  const first = all.findLastIndex((tick) => tick <= least);
  const last = all.findIndex((tick) => tick >= most && tick > (all[first] as number));
  return all.slice(first, last + 1);
}

function grid(x: Scale, y: Scale): string {
  const vertical = x.ticks.map((tick) => {
    const at = x.at(tick);
    return `<path class="grid" d="M${at} ${y.from}V${y.to}"/><text class="soft" x="${at}" y="${y.from + 20}" text-anchor="middle">${shortly(tick)}</text>`;
  });
  const horizontal = y.ticks.map((tick) => {
    const at = y.at(tick);
    return `<path class="grid" d="M${x.from} ${at}H${x.to}"/><text class="soft" x="${x.from - 10}" y="${at + 4}" text-anchor="end">${tick.toLocaleString('en')}</text>`;
  });
  return [...vertical, ...horizontal].join('\n');
}

/** From the first point of a line with a slope of 1, up to the edge of the plot. */
function proportion(line: readonly ScalePoint[], x: Scale, y: Scale): string {
  const [first, last] = [line[0], line.at(-1)];
  if (first === undefined || last === undefined || first === last) return '';
  const factor = Math.min(last.miners / first.miners, (y.ticks.at(-1) as number) / first.server_us);
  const end = { x: x.at(first.miners * factor), y: y.at(first.server_us * factor) };
  const path = `M${x.at(first.miners)} ${y.at(first.server_us)}L${end.x} ${end.y}`;
  return `<path class="proportion" d="${path}"/><text class="soft" x="${end.x - 40}" y="${end.y + 16}" text-anchor="end">in proportion to miners</text>`;
}

function curve(line: readonly ScalePoint[], i: number, x: Scale, y: Scale): string {
  const at = line.map(({ miners, server_us }) => ({ x: x.at(miners), y: y.at(server_us), server_us }));
  const dots = at.map(
    (point) =>
      `<circle class="dot c${i}" cx="${point.x}" cy="${point.y}" r="4"><title>${point.server_us} µs</title></circle>`,
  );
  return `<polyline class="line c${i}" points="${at.map((point) => `${point.x},${point.y}`).join(' ')}"/>${dots.join('')}`;
}

/** A name beside the end of each line, with room between them. */
function endLabels(series: readonly (readonly ScalePoint[])[], x: Scale, y: Scale): string {
  const ends = series.map((line, i) => ({ i, ...(line.at(-1) as ScalePoint) }));
  let lowest = Number.NEGATIVE_INFINITY;
  return ends
    .sort((a, b) => b.server_us - a.server_us)
    .map(({ i, miners, server_us, shards }) => {
      lowest = Math.max(y.at(server_us) + 4, lowest + LABEL_GAP);
      const name = shards === 1 ? '1 shard' : `${shards} shards`;
      return `<text class="name c${i}" x="${x.at(miners) + 10}" y="${lowest}">${name}</text>`;
    })
    .join('\n');
}

function styles(): string {
  const colours = (shade: 'light' | 'dark') =>
    COLOURS.map(
      (colour, i) => `.line.c${i}{stroke:${colour[shade]}}.dot.c${i},.name.c${i}{fill:${colour[shade]}}`,
    ).join('');
  return [
    'text{fill:#1f2328}.soft{fill:#59636e}.paper{fill:#ffffff}.grid{stroke:#d1d9e0}.proportion{stroke:#818b98}',
    '.line,.grid,.proportion{fill:none}.line{stroke-width:2.5;stroke-linejoin:round}.proportion{stroke-dasharray:5 5}.name{font-weight:600}',
    colours('light'),
    '@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.soft{fill:#9198a1}.paper{fill:#0d1117}.grid{stroke:#30363d}.proportion{stroke:#818b98}',
    `${colours('dark')}}`,
  ].join('\n');
}

function shortly(miners: number): string {
  if (miners >= 1e6) return `${miners / 1e6}M`;
  return miners >= 1000 ? `${miners / 1000}k` : String(miners);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escapeXml(text: string): string {
  return text.replace(/[<>&"]/g, (char) => `&#${char.charCodeAt(0)};`);
}
