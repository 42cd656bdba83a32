import { printableLine } from '../terminal.js'

/**
 * Columns as docker prints them: each as wide as its widest cell, three blanks between, nothing
 * after the last. The rows may come in several pieces: `header` is above those of the first one,
 * and a column is never narrower than it was.
 * @returns what makes lines of some rows
 */
export function tableOf(header: readonly string[]): (rows: readonly (readonly string[])[]) => string[] {
  let widths: readonly number[] = header.map(() => 0)
  let isBegun = false
  return (rows) => {
    const lines = [...(isBegun ? [] : [header]), ...rows.map((row) => row.map(printableLine))]
    isBegun = true
    widths = widths.map((least, column) =>
      lines.reduce((width, line) => Math.max(width, line[column]?.length ?? 0), least),
    )
    return lines.map((line) =>
      line
        .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3))
        .join('')
        .trimEnd(),
    )
  }
}

/** docker's short form of an id: twelve digits. */
export function shortId(id: string): string {
  return id.replace(/^sha(?:256|512):/, '').slice(0, 12)
}

/** `localhost:5000/x:1` → repository and tag; what has none is `<none>`. */
export function splitName(name: string): [repository: string, tag: string] {
  if (name === '') return ['<none>', '<none>']
  const bare = name.split('@', 1)[0] ?? name
  const colon = bare.lastIndexOf(':')
  return colon > bare.lastIndexOf('/') ? [bare.slice(0, colon), bare.slice(colon + 1)] : [bare, '<none>']
}
