import { Metrics, SERIES } from '@strata/platform'

/** Names by what they are about: the words after `strata_`. */
const PARTS: readonly (readonly [title: string, pattern: RegExp])[] = [
  ['Whether a service serves', /^strata_(up|not_ready)$/],
  ['Requests', /^strata_http_/],
  ['Uploads', /^strata_uploads?_/],
  ['Jobs and queues', /^strata_(jobs?|queue)_/],
  ['The store and what is kept', /^strata_(store|cache)_/],
]

/** A family of a page: `# HELP` and `# TYPE`. */
interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
}

/** The families that a process without requests gives. */
export async function families(): Promise<Family[]> {
  const { text } = await (await Metrics.open()).scrape()
  return [...text.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)$/gm)].map(([, name, help, type]) => ({
    name: name!,
    type: type!,
    help: help!,
  }))
}

/** docs/metrics.md, all of it: from the table of series and from what a process gives. */
export async function metricsDocument(): Promise<string> {
  const found = await families()
  const own = PARTS.flatMap(([title, pattern]) => [
    '',
    `## ${title}`,
    '',
    '| series | type | labels | |',
    '| --- | --- | --- | --- |',
    ...Object.entries(SERIES)
      .filter(([name]) => pattern.test(name))
      .map(([name, { type, help, labels }]) => `| \`${name}\` | ${type} | ${labelList(labels)} | ${help} |`),
  ])
  return [
    '# Metrics',
    '',
    '<!-- Made from libs/platform/src/metrics/series.ts by tools/deploy: change it there, then `npm run docs -w @strata/deploy`. -->',
    '',
    'Every service answers `GET /metrics` in the text format of Prometheus:',
    '',
    '| where | who may ask |',
    '| --- | --- |',
    '| the health listener of each service (`STRATA_HEALTH`; [Configuration](configuration.md)); under `strata up`, of all its services together | whoever reaches it |',
    '| the public listeners of the gateway | as everything that an administrator does: with the token over TCP, without on the unix socket |',
    '',
    '```yaml',
    'scrape_configs:',
    '  - job_name: strata',
    '    authorization: { credentials_file: /var/lib/strata/token } # for a public listener only',
    '    static_configs: [{ targets: ["127.0.0.1:4700"] }]',
    '```',
    '',
    'Every series of Strata has the label `service` (`gateway`, `ingest`, `storage`, `extractor` or `runtime`) beside those below: under `strata up` one page has all of them. No label holds a name, a digest, an id or a path: the number of series has a bound, whatever',
    'clients send. A counter begins at 0 when its process starts. A series appears with its first event.',
    '',
    'A scrape asks Redis one short question for each queue, and Redis and the store whether they answer. It waits for 3 s at most; what was not told by then is absent, and `strata_up` is 0. Several replicas tell the same of a shared queue: use `max by (queue)`, not `sum`.',
    '',
    '| to know | ask |',
    '| --- | --- |',
    '| what does not serve, and why | `strata_not_ready == 1` |',
    '| errors of the API, of all requests | `sum(rate(strata_http_requests_total{status="5xx"}[5m])) / sum(rate(strata_http_requests_total[5m]))` |',
    '| how long manifests take | `histogram_quantile(0.99, sum by (le) (rate(strata_http_request_duration_seconds_bucket{route="/v2/<name>/manifests/<reference>"}[5m])))` |',
    '| whether loads wait | `max by (queue) (strata_queue_oldest_waiting_seconds) > 60` |',
    '| whether the store fails | `sum by (operation, outcome) (rate(strata_store_calls_total{outcome!="ok"}[5m]))` |',
    ...own,
    '',
    '## The process',
    '',
    'As prom-client names them, so that dashboards for Node.js fit. They have no label `service`.',
    '',
    '| series | type | |',
    '| --- | --- | --- |',
    ...found
      .filter(({ name }) => !name.startsWith('strata_'))
      .map(({ name, type, help }) => `| \`${name}\` | ${type} | ${help} |`),
    '',
  ].join('\n')
}

function labelList(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, meaning]) => `\`${name}\`: ${meaning}`)
    .join('; ')
}
