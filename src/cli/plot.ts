/** Pictures of series of numbers, for terminals and as SVG. */

const TICKS = '▁▂▃▄▅▆▇█';

/** One character per value, from the least to the greatest; a dot where there is none. */
export function sparkline(values: readonly (number | null)[]): string {
  const known = values.filter((value) => value !== null);
  const least = Math.min(...known);
  const range = Math.max(...known) - least;
  return values
    .map((value) => {
      if (value === null) return '·';
      return TICKS[range === 0 ? 3 : Math.round(((value - least) / range) * (TICKS.length - 1))];
    })
    .join('');
}

/** A line with a band around it. */
export interface Band {
  readonly lower: number;
  readonly expected: number;
  readonly upper: number;
}

/** Thins a series out to at most `count` points: each is the mean of its part, with the widest band of it. */
export function thinOut(points: readonly Band[], count: number): Band[] {
  const columns = Math.min(count, points.length);
  return Array.from({ length: columns }, (_, i) => {
    const from = Math.floor((i * points.length) / columns);
    const part = points.slice(from, Math.floor(((i + 1) * points.length) / columns));
    return {
      lower: Math.min(...part.map((point) => point.lower)),
      expected: part.reduce((total, point) => total + point.expected, 0) / part.length,
      upper: Math.max(...part.map((point) => point.upper)),
    };
  });
}

/** Draws a band in characters: `░` is the interval, `█` the line; the highest value stands at the top left. */
export function textPlot(points: readonly Band[], width: number, height: number): string {
  const columns = thinOut(points, width);
  const top = Math.max(...columns.map(({ upper }) => upper), Number.EPSILON);
  const rowOf = (value: number) => Math.min(height - 1, Math.floor((value / top) * height));
  const label = top.toFixed(1);
  const rows = Array.from({ length: height }, (_, i) => {
    const row = height - 1 - i;
    const line = columns.map(({ lower, expected, upper }) => {
      if (rowOf(expected) === row) return '█';
      return row >= rowOf(lower) && row <= rowOf(upper) ? '░' : ' ';
    });
    const edge = i === 0 ? label : row === 0 ? '0' : '';
    return `${edge.padStart(label.length)} │${line.join('').trimEnd()}`;
  });
  return [...rows, `${' '.repeat(label.length)} └${'─'.repeat(columns.length)}`].join('\n');
}

const SVG_WIDTH = 960;
const SVG_HEIGHT = 320;
const MARGIN = 40;

/** The same as an SVG picture that needs nothing else. @param title plain text */
export function svgPlot(points: readonly Band[], title: string): string {
  const top = Math.max(...points.map(({ upper }) => upper), Number.EPSILON);
  const x = (i: number) => round(MARGIN + (i * (SVG_WIDTH - 2 * MARGIN)) / Math.max(1, points.length - 1));
  const y = (value: number) => round(SVG_HEIGHT - MARGIN - (value / top) * (SVG_HEIGHT - 2 * MARGIN));
  const upper = points.map((point, i) => `${x(i)},${y(point.upper)}`);
  const lower = points.map((point, i) => `${x(i)},${y(point.lower)}`).reverse();
  const line = points.map((point, i) => `${x(i)},${y(point.expected)}`);
  const axis = SVG_HEIGHT - MARGIN;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${SVG_WIDTH} ${SVG_HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="${MARGIN}" y="20">${escapeXml(title)}</text>
<polygon points="${[...upper, ...lower].join(' ')}" fill="#cfe0f5"/>
<polyline points="${line.join(' ')}" fill="none" stroke="#1f5fa8" stroke-width="2"/>
<path d="M${MARGIN} ${MARGIN}V${axis}H${SVG_WIDTH - MARGIN}" fill="none" stroke="#444"/>
<text x="${MARGIN - 4}" y="${MARGIN + 4}" text-anchor="end">${top.toFixed(0)}</text>
<text x="${MARGIN - 4}" y="${axis}" text-anchor="end">0</text>
</svg>
`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escapeXml(text: string): string {
  return text.replace(/[<>&"]/g, (char) => `&#${char.charCodeAt(0)};`);
}
