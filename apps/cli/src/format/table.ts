import { printableLine } from '../terminal.js'

/**
 * Columns as docker prints them: each as wide as its widest cell, three blanks between, nothing
 * after the last.
 */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows.map((row) => row.map(printableLine))]
  const widths = header.map((_title, column) =>
    lines.reduce((width, line) => Math.max(width, line[column]?.length ?? 0), 0),
  )
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3))
        .join('')
        .trimEnd(),
    )
    .join('\n')
}

/** docker's short form of an id: twelve digits. */
export function shortId(id: string): string {
  return id.replace(/^sha(?:256|512):/, '').slice(0, 12)
}
