import type { RemoteLimits } from '../limits.js'

/** Sizes, counts and pauses that a test comes to, small. Limits of time are as they are. */
export const SMALL_LIMITS: Partial<RemoteLimits> = {
  maxManifestBytes: 64 * 1024,
  maxReferrersBytes: 64 * 1024,
  maxTagPageBytes: 64 * 1024,
  maxTokenBytes: 4 * 1024,
  maxPages: 5,
  maxListed: 2_000,
  firstPauseMs: 2,
  maxPauseMs: 8,
  maxRetryAfterMs: 20,
  rangesFromBytes: 256 * 1024,
  rangeBytes: 64 * 1024,
  maxRangeMemory: 256 * 1024,
}

/** Limits of time, for tests of what comes to them. */
export const SHORT_LIMITS: Partial<RemoteLimits> = {
  headMs: 300,
  silenceMs: 300,
  paceMs: 600,
  leastBytesPerSecond: 10_000,
  requestMs: 1_500,
}
