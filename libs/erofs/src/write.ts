import type { ErofsSource } from './source.js'

/** What was written. */
export interface ErofsImage {
  /** Bytes of metadata, a multiple of 512. */
  readonly bytes: number
}

/** One EROFS metadata image. Chunks come in order and must be used before `write` returns: the buffer is filled again. */
export function writeErofs(source: ErofsSource, write: (chunk: Buffer) => void): ErofsImage {
  void [source, write]
  return { bytes: 0 }
}
