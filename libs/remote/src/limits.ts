const KIB = 1024
const MIB = 1024 * KIB

/**
 * What a registry may cost, and how long it may take. Every number is a bound on what somebody else
 * decides; docs/security.md has them with their tests.
 */
export interface RemoteLimits {
  /** Of a manifest or an index, as everywhere in Strata (`MAX_JSON_BYTES`). */
  readonly maxManifestBytes: number
  /** Of an index of referrers, each page. */
  readonly maxReferrersBytes: number
  /** Of the answer of a token service. A token in it may have half of that. */
  readonly maxTokenBytes: number
  /** Lists and objects in one another, in the answer of a token service. */
  readonly maxTokenDepth: number
  /** Tokens that are kept in a process. */
  readonly maxTokens: number
  /** Of one page of tags. */
  readonly maxTagPageBytes: number
  /** Pages that are followed by `Link`, of tags or of referrers. */
  readonly maxPages: number
  /** Tags or referrers that are read in all. */
  readonly maxListed: number
  /** All headers of one answer. */
  readonly maxHeaderBytes: number
  /** Redirections of one request. */
  readonly maxRedirects: number
  /** Until a connection is there: name, TCP, proxy and TLS together. */
  readonly connectMs: number
  /** From the request to the last header of its answer. */
  readonly headMs: number
  /** Without a byte of a body, while somebody waits for it. */
  readonly silenceMs: number
  /** A body that is waited for for this long, all waits together, has to bring at least … */
  readonly paceMs: number
  /** … so many bytes a second. */
  readonly leastBytesPerSecond: number
  /** A request for a manifest, a token or a list: one attempt, with its body. */
  readonly requestMs: number
  /** Attempts in a row that bring nothing. */
  readonly maxAttempts: number
  /** The same for a host that has not answered since it was first asked. */
  readonly maxFirstAttempts: number
  /** The first pause, which doubles with each attempt. By chance it is half of that, or more. */
  readonly firstPauseMs: number
  readonly maxPauseMs: number
  /** A registry that asks for a longer pause (`Retry-After`) gets this one. */
  readonly maxRetryAfterMs: number
  /** Connections to one host and port. */
  readonly maxConnections: number
  /** A blob larger than this comes by several ranges at once. */
  readonly rangesFromBytes: number
  /** The size of one range. */
  readonly rangeBytes: number
  /** Ranges of one blob at once. */
  readonly maxRanges: number
  /** The buffers of all ranges in a process. Beyond it a blob comes as one stream. */
  readonly maxRangeMemory: number
  /** Blobs without ranges that are read again from their first byte. */
  readonly maxRestarts: number
}

export const REMOTE_LIMITS: RemoteLimits = {
  maxManifestBytes: 4 * MIB,
  maxReferrersBytes: 4 * MIB,
  maxTokenBytes: 64 * KIB,
  maxTokenDepth: 16,
  maxTokens: 1_000,
  maxTagPageBytes: 4 * MIB,
  maxPages: 1_000,
  maxListed: 100_000,
  maxHeaderBytes: 32 * KIB,
  maxRedirects: 5,
  connectMs: 10_000,
  headMs: 60_000,
  silenceMs: 60_000,
  paceMs: 60_000,
  leastBytesPerSecond: 4 * KIB,
  requestMs: 60_000,
  maxAttempts: 8,
  maxFirstAttempts: 3,
  firstPauseMs: 500,
  maxPauseMs: 30_000,
  maxRetryAfterMs: 60_000,
  maxConnections: 16,
  rangesFromBytes: 32 * MIB,
  rangeBytes: 8 * MIB,
  maxRanges: 3,
  maxRangeMemory: 64 * MIB,
  maxRestarts: 3,
}
