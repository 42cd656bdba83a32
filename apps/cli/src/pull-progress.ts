import type { JobView, LayerProgress } from '@strata/api'
import { humanSize } from './format/units.js'
import { amount, bar, clipped, lineProgress, REDRAW, type Clock, type Output } from './progress.js'
import { printableLine } from './terminal.js'

/** How a pull is shown while it goes on: each layer, and all of them together. */
export interface PullProgress {
  show(view: Partial<JobView>): void
  /** Nothing more comes; what is written next begins on a line of its own. */
  close(): void
}

export const noPullProgress: PullProgress = { show: () => undefined, close: () => undefined }

/** docker's words for the states of a layer. */
const WORDS: Readonly<Record<LayerProgress['state'], string>> = {
  waiting: 'Pulling fs layer',
  pulling: 'Downloading',
  pulled: 'Download complete',
  known: 'Already exists',
}

function lineOf({ digest, state }: LayerProgress): string {
  return printableLine(`${digest.replace(/^.*:/, '').slice(0, 12)}: ${WORDS[state]}`)
}

function detailed(layer: LayerProgress): string {
  const { bytes, size, state } = layer
  if (state !== 'pulling') return lineOf(layer)
  return `${lineOf(layer)} ${bar(bytes, size)}  ${humanSize(bytes)}/${humanSize(size)}`
}

/**
 * A line for each layer and one for all, drawn over and over, at most ten times a second. Where the
 * terminal has too few lines, layers that are done are left out first.
 */
export function drawnPull(output: Output, now: Clock = Date.now): PullProgress {
  const start = now()
  let drawnAt = -Infinity
  let height = 0
  let last: Partial<JobView> = {}
  const draw = (lines: readonly string[]): void => {
    const up = height > 1 ? `\x1b[${height - 1}A` : ''
    output.write(`${up}\r${lines.map((line) => `${clipped(line, output)}\x1b[K`).join('\n')}\x1b[J`)
    height = lines.length
  }
  const layersOf = ({ layers = [] }: Partial<JobView>): string[] => {
    const room = Math.max(1, (output.rows || 24) - 3)
    if (layers.length <= room) return layers.map(detailed)
    const open = layers.filter(({ state }) => state === 'pulling' || state === 'waiting')
    const done = layers.filter((layer) => !open.includes(layer))
    const shown = new Set([...open, ...done].slice(0, room))
    const lines = layers.filter((layer) => shown.has(layer)).map(detailed)
    return [...lines, `… and ${layers.length - shown.size} layers more`]
  }
  return {
    show(view) {
      last = view
      const time = now()
      if (time - drawnAt < REDRAW) return
      drawnAt = time
      const { step = '', bytes = 0, total } = view
      const all = total === undefined ? '' : ` ${bar(bytes, total)}  ${amount(bytes, total, time - start)}`
      draw([...layersOf(view), `${printableLine(step)}${all}`])
    },
    close() {
      if (height === 0) return
      const lines = layersOf(last)
      draw(lines)
      if (lines.length > 0) output.write('\n')
    },
  }
}

/** A line for each change of a layer, each step, and each tenth of all bytes. */
export function pullLines(output: Output, now: Clock = Date.now): PullProgress {
  const all = lineProgress(output, now, 'pulling')
  let before: ReadonlySet<string> = new Set()
  return {
    show({ layers = [], step = '', bytes = 0, total }) {
      const lines = new Set(layers.map(lineOf))
      for (const line of lines) if (!before.has(line)) output.write(`${line}\n`)
      before = lines
      all.step(step)
      if (total !== undefined && total > 0) all.sent(bytes, total)
    },
    close: () => undefined,
  }
}
