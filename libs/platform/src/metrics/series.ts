/** What a label of a series says. Its values are a closed set, which does not grow with use. */
type Labels = Readonly<Record<string, string>>

interface Described<T extends string, L extends Labels> {
  readonly type: T
  /** One sentence: the help of the series, and its line in docs/metrics.md. */
  readonly help: string
  /** The labels beside `service`, which every series has. */
  readonly labels: L
  /** Of a histogram: the upper bounds of its buckets, in seconds. */
  readonly buckets?: readonly number[]
}

function counter<L extends Labels>(help: string, labels: L): Described<'counter', L> {
  return { type: 'counter', help, labels }
}
function gauge<L extends Labels>(help: string, labels: L): Described<'gauge', L> {
  return { type: 'gauge', help, labels }
}
function histogram<L extends Labels>(help: string, buckets: readonly number[], labels: L): Described<'histogram', L> {
  return { type: 'histogram', help, labels, buckets }
}

/** From a manifest out of memory to a large blob. What takes longer waits for its client. */
const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60]
/** From a look at a file to a part of a slow upload. */
const STORE_SECONDS = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30]
/** From a sweep to the import of a large archive. */
const JOB_SECONDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800]

const route = {
  method: 'GET, HEAD, POST, PUT, PATCH, DELETE or `other`',
  route: 'the pattern of the route, as `/v1/images/:ref`, never a path; `none` where no route matched',
}
const asAbove = { method: 'as above', route: 'as above' }

/**
 * Every series that is Strata's own (decision 91); docs/metrics.md is made of this table. Those of
 * the process itself, `process_…` and `nodejs_…`, are prom-client's.
 *
 * Laws
 * - **Bounded.** The values of a label follow from the code: routes, jobs, operations, states. No
 *   name, digest, id, path or other text that comes from outside is one. So the number of series
 *   has a bound, whatever clients send.
 * - **Names.** `strata_`, then what Prometheus' conventions say: the base unit (seconds, bytes),
 *   and `_total` for a counter.
 */
export const SERIES = {
  strata_up: gauge('1 if the service serves, as /health/ready says it; else 0', {}),
  strata_not_ready: gauge('1 for each reason why the service does not serve; 0 for each other reason', {
    reason: '`redis`, `store`, `node`, `place`, `starting` or `draining`',
  }),

  strata_http_requests_total: counter('Requests whose answers have ended', {
    ...route,
    status: 'the class of the answer, as `2xx`; `none` if the connection ended before an answer',
  }),
  strata_http_request_duration_seconds: histogram(
    'From the headers of a request to the end of its answer, with the time that its client takes',
    REQUEST_SECONDS,
    asAbove,
  ),
  strata_http_requests_in_progress: gauge('Requests whose answers have not ended', {}),
  strata_http_received_bytes_total: counter('Bytes from clients, headers too', asAbove),
  strata_http_sent_bytes_total: counter('Bytes to clients, headers too', asAbove),

  strata_uploads_in_progress: gauge('Bodies that bring images or blobs and are being read', {
    kind: '`stream` (an archive over HTTP), `file` (an archive of this machine) or `push` (of the registry)',
  }),
  strata_upload_rehashes_total: counter(
    'Uploads of the registry whose bytes were read back, because their hash could not be kept',
    {},
  ),
  strata_upload_rehashed_bytes_total: counter('Bytes that were read back for that', {}),

  strata_jobs_started_total: counter('Runs of jobs that began in this service', {
    job: 'the name of the job, as `load` ([Jobs](architecture.md#jobs)); `unknown` for any other',
  }),
  strata_jobs_ended_total: counter('Runs of jobs that ended in this service', {
    job: 'as above',
    outcome:
      '`completed`, `failed` or `cancelled`; `suspended` if the job will be run again: it waits for others, or for what is away',
  }),
  strata_job_duration_seconds: histogram('How long runs of jobs took', JOB_SECONDS, { job: 'as above' }),

  strata_queue_jobs: gauge('Jobs in a queue. Absent while Redis does not answer', {
    queue: 'the queue ([Jobs](architecture.md#jobs)); `.node` stands for `.<node>`',
    state: '`waiting`, `background` (after all others), `active`, `delayed` or `children` (waits for other jobs)',
  }),
  strata_queue_oldest_waiting_seconds: gauge(
    'How long ago the next job of the queue was added; 0 if none waits. Absent while Redis does not answer',
    { queue: 'as above' },
  ),

  strata_store_calls_total: counter('Calls of the object store', {
    operation: 'the method of the store, as `put`, `get`, `stat`, `create`, `list`',
    outcome: '`ok`, `store_unavailable`, `storage_full`, `cancelled`, or `other` (the source of the bytes, a refusal)',
  }),
  strata_store_call_duration_seconds: histogram(
    'How long calls of the store took: `get` until its body begins, `put` with the time of its source',
    STORE_SECONDS,
    { operation: 'as above' },
  ),

  strata_cache_requests_total: counter('Looks into what is kept, so that it need not be made again', {
    cache:
      '`views` (files of images) or `manifests` (of the registry) in the gateway, or `layers` (unpacked ones) on a node',
    result: '`hit` or `miss`',
  }),
} as const

export type Series = typeof SERIES
/** The names of the series of one type. */
export type SeriesOf<T extends string> = {
  [N in keyof Series]: Series[N]['type'] extends T ? N : never
}[keyof Series]
/** The labels of a series, without `service`. */
export type LabelsOf<N extends keyof Series> = Readonly<Record<keyof Series[N]['labels'] & string, string>>
