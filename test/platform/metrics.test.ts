import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { Registry } from 'prom-client';
import { createCoordinatorMetrics } from '../../src/coordinator/metrics.ts';
import { createMetrics } from '../../src/platform/metrics.ts';

/** What an operator reads of metrics: dashboards, and the table of what is worth an alert. */
const READ = ['deploy/grafana/pool-hub.json', 'docs/OPERATIONS.md', 'docs/COORDINATOR.md', 'docs/ALERTS.md'];

/** Labels that Prometheus adds, and the bound of a histogram's bucket. */
const ADDED = ['le', 'instance', 'job'];

/** Counts of the whole fleet, which every hub shows alike: the sum over instances would count them once for each. */
const OF_THE_FLEET = /\bsum\b[^"]*\bpoolhub_(miners_online|reservations|journal_lag|tasks|usage_records)\b/;

/** Names as queries write them, with the labels of each. */
function labelsByName(registry: Registry): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  for (const metric of registry.getMetricsAsArray()) {
    const { name, type, labelNames } = metric as unknown as {
      name: string;
      type: string;
      labelNames: string[];
    };
    const suffixes = type === 'histogram' ? ['', '_bucket', '_sum', '_count'] : [''];
    for (const suffix of suffixes) found.set(name + suffix, labelNames);
  }
  return found;
}

const known = new Map([
  ...labelsByName(createMetrics({ process: false }).registry),
  ...labelsByName(createCoordinatorMetrics({ process: false }).registry),
]);

for (const file of READ) {
  test(`${file} asks for metrics and labels that are there`, () => {
    const text = readFileSync(file, 'utf8').replaceAll('\\"', "'");
    for (const [, name = '', labels = ''] of text.matchAll(
      /\b((?:poolhub|coordinator)_[a-z_]+)\b(?:\{([^}]*)\})?/g,
    )) {
      assert.ok(known.has(name), `no metric ${name}`);
      for (const [label] of labels.matchAll(/[a-z_]+(?=\s*(?:=|!|,|$))/g)) {
        assert.ok(known.get(name)?.includes(label), `${name} has no label ${label}`);
      }
    }
  });
}

test('the dashboard groups by labels that its metrics have, and does not sum what every hub shows alike', () => {
  const { panels } = JSON.parse(readFileSync('deploy/grafana/pool-hub.json', 'utf8')) as {
    panels: { title: string; targets?: { expr: string }[] }[];
  };
  const queries = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
  assert.ok(queries.length > 10);
  for (const query of queries) {
    const labels = [...query.matchAll(/poolhub_[a-z_]+/g)].flatMap(([name]) => known.get(name) ?? []);
    for (const [, by = ''] of query.matchAll(/\bby \(([^)]*)\)/g)) {
      for (const label of by.split(/\s*,\s*/))
        assert.ok([...labels, ...ADDED].includes(label), `${query}: ${label}`);
    }
    assert.doesNotMatch(query, OF_THE_FLEET);
  }
});
