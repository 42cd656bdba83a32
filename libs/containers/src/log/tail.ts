import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { closedGenerations, CURRENT, isAbsent } from './generations.js'
import { readRecord, type LogRecord } from './parser.js'
import type { LogPlace } from './types.js'

const WINDOW = 64 * 1024
const NEWLINE = 0x0a

/** Whether the last byte of the file ends a record. Nobody writes to the file meanwhile. */
export async function endsInRecord(path: string): Promise<boolean> {
  await using file = await open(path, 'r')
  const { size } = await file.stat()
  const { bytesRead, buffer } = await file.read(Buffer.alloc(1), { position: size - 1 })
  return bytesRead === 1 && buffer[0] === NEWLINE
}

/** The place that is further behind; `undefined` is the log's beginning. */
export function laterOf(one: LogPlace | undefined, other: LogPlace | undefined): LogPlace | undefined {
  if (!one || !other) return one ?? other
  return one.number > other.number || (one.number === other.number && one.offset > other.offset) ? one : other
}

/**
 * Where the last `lines` lines begin (of one stream, or of both together), read from the end
 * backwards. `undefined`: at the very beginning.
 */
export async function placeOfTail(folder: string, lines: number, stream?: 1 | 2): Promise<LogPlace | undefined> {
  const closed = await closedGenerations(folder)
  const files = [
    ...closed.map((number) => ({ number, name: String(number) })),
    { number: (closed.at(-1) ?? -1) + 1, name: CURRENT },
  ].reverse()
  let left = lines
  for (const { number, name } of files) {
    const file = await open(join(folder, name), 'r').catch((error: unknown) => {
      if (isAbsent(error)) return undefined
      throw error
    })
    if (!file) continue
    try {
      const { size } = await file.stat()
      if (lines === 0) return { number, offset: size }
      const bytes = Buffer.allocUnsafe(WINDOW)
      const record: LogRecord = { stream: 1, full: false, text: 0 }
      // `end` is behind a newline (or the file's end). A window is larger than any record, so each
      // holds at least one whole.
      for (let end = size; end > 0;) {
        const begin = Math.max(0, end - WINDOW)
        const { bytesRead } = await file.read(bytes, 0, end - begin, begin)
        const window = bytes.subarray(0, bytesRead)
        const first = begin === 0 ? 0 : window.indexOf(NEWLINE) + 1
        for (let stop = window.lastIndexOf(NEWLINE); stop >= first;) {
          const start = stop === 0 ? 0 : window.lastIndexOf(NEWLINE, stop - 1) + 1
          if (start < first) break
          if (
            readRecord(window, start, stop, record) &&
            record.full &&
            (stream === undefined || record.stream === stream) &&
            left-- === 0
          )
            return { number, offset: begin + stop + 1 }
          stop = start - 1
        }
        if (begin === 0 || first === 0) break
        end = begin + first
      }
    } finally {
      await file.close()
    }
  }
  return undefined
}
