import type { LogChunk } from './types.js'

const NEWLINE = 0x0a
const SPACE = 0x20
const FULL = 0x46
const LETTER_E = 0x65
/** Behind the time's space: `stdout F `, `stderr P `. */
const STREAM_LETTER = 3
const TAG = 7
const PAYLOAD = 9

/**
 * One record of conmon's k8s-file format, `2026-11-23T15:11:48.347477249+00:00 stdout F text\n`,
 * within `bytes`. `F`: the text and its newline were written; `P`: the text alone, and its line
 * goes on. The record's own newline is at `end`. `undefined` if it is torn (a power loss).
 */
export interface LogRecord {
  stream: 1 | 2
  full: boolean
  /** Where the text begins; it ends at `end`. */
  text: number
}

/**
 * Fills `record` from the record that begins at `start` and whose newline is at `end`; false if it
 * is none. No object a record: there are millions.
 */
export function readRecord(bytes: Buffer, start: number, end: number, record: LogRecord): boolean {
  const space = bytes.indexOf(SPACE, start)
  if (space < 0 || space + 1 + PAYLOAD > end || bytes[space + 1 + PAYLOAD - 1] !== SPACE) return false
  record.stream = bytes[space + 1 + STREAM_LETTER] === LETTER_E ? 2 : 1
  record.full = bytes[space + 1 + TAG] === FULL
  record.text = space + 1 + PAYLOAD
  return true
}

/**
 * Undoes the format: what the container wrote, byte for byte, in pieces as large as the reads. Give
 * it what was read, in any pieces; `buffer()` is where to read into, so that nothing is copied but
 * the text itself.
 */
export class LogParser {
  static readonly #SIZE = 256 * 1024
  readonly #record: LogRecord = { stream: 1, full: false, text: 0 }
  #bytes = Buffer.allocUnsafe(LogParser.#SIZE)
  #kept = 0

  constructor(private readonly stream?: 1 | 2) {}

  /** Free space to read into; never empty, as a record has at most some 8 KiB. */
  buffer(): Buffer {
    if (this.#kept === this.#bytes.length) this.#bytes = Buffer.concat([this.#bytes], this.#bytes.length * 2)
    return this.#bytes.subarray(this.#kept)
  }

  /**
   * Forgets a record that was begun: nothing more of it comes, where a loss of power or the limit
   * of a file has cut it off.
   */
  drop(): void {
    this.#kept = 0
  }

  /**
   * `length` bytes were read into `buffer()`. The pieces stay valid: they lie in memory of their
   * own.
   */
  take(length: number): LogChunk[] {
    const bytes = this.#bytes
    const filled = this.#kept + length
    const chunks: LogChunk[] = []
    const out = Buffer.allocUnsafe(filled)
    const record = this.#record
    let written = 0
    let from = 0
    let stream: 1 | 2 | undefined
    let time = ''
    const flush = (): void => {
      if (stream !== undefined && written > from) chunks.push({ stream, bytes: out.subarray(from, written), time })
      from = written
    }
    let start = 0
    for (
      let end = bytes.indexOf(NEWLINE);
      end >= 0 && end < filled;
      start = end + 1, end = bytes.indexOf(NEWLINE, start)
    ) {
      if (!readRecord(bytes, start, end, record)) continue
      if (this.stream !== undefined && record.stream !== this.stream) continue
      if (record.stream !== stream) {
        flush()
        stream = record.stream
        time = bytes.toString('latin1', start, record.text - PAYLOAD - 1)
      }
      // The record's newline is the line's own where it was written.
      written += bytes.copy(out, written, record.text, record.full ? end + 1 : end)
    }
    flush()
    bytes.copyWithin(0, start, filled)
    this.#kept = filled - start
    return chunks
  }
}
