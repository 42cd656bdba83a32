/**
 * When an upload has a pair of reading threads.
 *
 * A turn begins when `PACE_BYTES` are there, or the body's end, and it ends when the client has
 * kept the pair waiting for `PACE_MS` without bringing as much again. So threads never wait for a
 * client, and what a client that sends slowly or nothing costs is one buffer of this size.
 */
export const PACE_BYTES = 256 * 1024
export const PACE_MS = 250
/** How long a turn may last while others wait for the pair. */
export const SLICE_MS = 2_000
