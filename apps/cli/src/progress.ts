import { humanSize } from './format/units.js'
import { printableLine } from './terminal.js'

/** How a load is shown while it goes on. Never on stdout: that is for the result. */
export interface Progress {
  /** Bytes sent so far, of `total` where known. */
  sent(bytes: number, total: number | undefined): void
  /** What the service is doing now. */
  step(name: string): void
  /** Nothing more comes; leaves the terminal's line clean. */
  close(): void
}

export interface Output {
  write(text: string): unknown
  readonly columns?: number
  readonly rows?: number
}
export type Clock = () => number

export const noProgress: Progress = { sent: () => undefined, step: () => undefined, close: () => undefined }

/** Milliseconds. */
export const REDRAW = 100
const BAR = 30

/** `500B/1kB  50%  2kB/s`. */
export function amount(bytes: number, total: number | undefined, milliseconds: number): string {
  const rate = milliseconds > 0 ? `  ${humanSize((bytes / milliseconds) * 1000)}/s` : ''
  return total === undefined
    ? `${humanSize(bytes)}${rate}`
    : `${humanSize(bytes)}/${humanSize(total)}  ${percent(bytes, total)}%${rate}`
}

function percent(bytes: number, total: number): number {
  return total === 0 ? 100 : Math.min(100, Math.floor((bytes / total) * 100))
}

/** `[=====>     ]`. */
export function bar(bytes: number, total: number): string {
  const filled = Math.round((percent(bytes, total) / 100) * BAR)
  return `[${'='.repeat(filled)}${filled < BAR ? '>' : ''}${' '.repeat(Math.max(0, BAR - filled - 1))}]`
}

/** So much of a line that the terminal does not break it. One that was told no size says 0. */
export function clipped(text: string, { columns }: Output): string {
  return text.slice(0, (columns || 80) - 1)
}

/** One line that is drawn over and over, at most ten times a second. */
export function barProgress(output: Output, now: Clock = Date.now): Progress {
  const start = now()
  let drawn = 0
  const draw = (text: string): void => {
    output.write(`\r${clipped(text, output)}\x1b[K`)
  }
  return {
    sent(bytes, total) {
      const time = now()
      if (time - drawn < REDRAW && bytes !== total) return
      drawn = time
      draw(`sending ${total === undefined ? '' : `${bar(bytes, total)}  `}${amount(bytes, total, time - start)}`)
    },
    step: (name) => draw(printableLine(name)),
    close: () => output.write('\r\x1b[K'),
  }
}

/**
 * Plain lines for a pipe or a log file: every tenth of a known length (else every 100 MB), at most
 * one a second, and each new step.
 */
export function lineProgress(output: Output, now: Clock = Date.now, verb = 'sending'): Progress {
  const start = now()
  let said = start
  let mark = 0
  let last = ''
  return {
    sent(bytes, total) {
      const reached = Math.floor(bytes / (total === undefined ? 100_000_000 : Math.max(1, total / 10)))
      const complete = bytes === total
      const time = now()
      if (reached <= mark || (!complete && time - said < 1000)) return
      mark = reached
      said = time
      output.write(`${verb} ${amount(bytes, total, time - start)}\n`)
    },
    step(name) {
      if (name !== last) output.write(`${printableLine(name)}\n`)
      last = name
    },
    close: () => undefined,
  }
}
