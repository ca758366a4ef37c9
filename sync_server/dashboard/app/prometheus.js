/** Reading Prometheus' text format, as far as /metrics needs it. */

const LINE = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Samples by name: a Map of name to `[{labels, value}]`. */
export function parseMetrics(text) {
  const samples = new Map();
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : LINE.exec(line);
    if (match === null) continue;
    const [, name, labelText = '', valueText] = match;
    const labels = Object.fromEntries([...labelText.matchAll(LABEL)].map(([, key, value]) => [key, value]));
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels, value: Number(valueText.replace('Inf', 'Infinity')) });
  }
  return samples;
}

/** The sum of a metric over its labels; 0 where there is none. */
export function sumOf(samples, name) {
  return (samples.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);
}

/**
 * The quantile `q` of what a histogram counted between two readings, in its unit; null if nothing was counted. Within a
 * bucket it is taken to be spread evenly.
 */
export function quantile(before, after, name, q) {
  const buckets = countsOf(after, name).map(([le, count]) => [le, count]);
  const old = new Map(countsOf(before, name));
  const counts = buckets.map(([le, count]) => [le, count - (old.get(le) ?? 0)]).sort(([a], [b]) => a - b);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  const rank = q * all;
  let [lower, below] = [0, 0];
  for (const [le, count] of counts) {
    if (count >= rank) {
      if (le === Infinity) return lower;
      return count === below ? le : lower + (le - lower) * ((rank - below) / (count - below));
    }
    [lower, below] = [le, count];
  }
  return lower;
}

function countsOf(samples, name) {
  return (samples.get(`${name}_bucket`) ?? []).map(({ labels, value }) => [Number(labels.le.replace('+Inf', 'Infinity')), value]);
}
