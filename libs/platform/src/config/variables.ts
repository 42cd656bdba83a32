/**
 * The names of all variables of all services, and of the CLI: a machine's services share one
 * environment file, so each lets the others' variables pass. A test in tools/e2e keeps this list
 * and the services' schemas (apps/*\/src/config.ts) the same.
 */
export const VARIABLES: readonly string[] = [
  'STRATA_ASSEMBLE_CONCURRENCY',
  'STRATA_BODY_MEMORY',
  'STRATA_BODY_TIMEOUT_MS',
  'STRATA_DATA',
  'STRATA_DOOR_ADDRESS',
  'STRATA_DOOR_LISTEN',
  'STRATA_DRAIN_MS',
  'STRATA_EROFS',
  'STRATA_EXTRACT_CONCURRENCY',
  'STRATA_FILES_MEMORY',
  'STRATA_GC_INTERVAL',
  'STRATA_HEADERS_TIMEOUT_MS',
  'STRATA_HEALTH',
  'STRATA_HOST',
  'STRATA_INDEX_MEMORY',
  'STRATA_INDEX_ON_PUSH',
  'STRATA_INGEST_CONCURRENCY',
  'STRATA_LAUNCH_CONCURRENCY',
  'STRATA_LISTEN',
  'STRATA_LOG_LEVEL',
  'STRATA_MANIFEST_MEMORY',
  'STRATA_MAX_ARCHIVE_BYTES',
  'STRATA_MAX_ARCHIVE_ENTRIES',
  'STRATA_MAX_ARCHIVE_NAMES',
  'STRATA_MAX_BLOB_BYTES',
  'STRATA_MAX_CONNECTIONS',
  'STRATA_MAX_INDEX_BYTES',
  'STRATA_MAX_JSON_BYTES',
  'STRATA_MAX_LAYER_ENTRIES',
  'STRATA_MAX_MANIFEST_BYTES',
  'STRATA_MAX_PATH_BYTES',
  'STRATA_MAX_PATH_DEPTH',
  'STRATA_MAX_PUSHES',
  'STRATA_MAX_PUSH_UPLOADS',
  'STRATA_MAX_RATIO',
  'STRATA_MAX_UPLOADS',
  'STRATA_NODE',
  'STRATA_NODE_FOLDER',
  'STRATA_NODE_LOST_MS',
  'STRATA_NODE_SECRET_FILE',
  'STRATA_PREPARE',
  'STRATA_PULL_CONCURRENCY',
  'STRATA_PUSH_EXPIRY_MS',
  'STRATA_PUSH_HOLD_MS',
  'STRATA_PUSH_MIN_RATE',
  'STRATA_READERS',
  'STRATA_REDIS',
  'STRATA_REJOIN',
  'STRATA_RUN_FOLDER',
  'STRATA_S3_ACCESS_KEY',
  'STRATA_S3_ENDPOINT',
  'STRATA_S3_PUBLIC_ENDPOINT',
  'STRATA_S3_PUBLIC_SECONDS',
  'STRATA_S3_REGION',
  'STRATA_S3_SECRET_KEY',
  'STRATA_S3_SECRET_KEY_FILE',
  'STRATA_SERVICES',
  'STRATA_SNAPSHOTTER',
  'STRATA_SOCKET',
  'STRATA_SPARSE_IMAGES',
  'STRATA_STORE',
  'STRATA_SWEEP_INTERVAL_MS',
  'STRATA_TLS_CA',
  'STRATA_TOKEN',
  'STRATA_TOKEN_FILE',
  'STRATA_UNREAD_TIMEOUT_MS',
  'STRATA_UPLOAD_IDLE_MS',
  'STRATA_UPLOAD_SILENCE_MS',
]

/**
 * Whether some service, the CLI, a test, or Kubernetes (which tells every container of every
 * service `<NAME>_SERVICE_HOST`, `<NAME>_PORT_…`) may have set it.
 */
export function isVariable(name: string): boolean {
  return (
    VARIABLES.includes(name) ||
    name.startsWith('STRATA_TEST_') ||
    /_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$/.test(name)
  )
}

/** The variable that was probably meant: at most two letters added, left out or changed. */
export function nearestVariable(name: string): string | undefined {
  const near = VARIABLES.map((known) => ({ known, distance: editDistance(name, known) })).filter(
    ({ distance }) => distance <= 2,
  )
  return near.sort((a, b) => a.distance - b.distance)[0]?.known
}

/** Levenshtein's, row by row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}
