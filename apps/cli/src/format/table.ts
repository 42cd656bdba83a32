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

/** `localhost:5000/x:1` → repository and tag; what has none is `<none>`. */
export function splitName(name: string): [repository: string, tag: string] {
  if (name === '') return ['<none>', '<none>']
  const bare = name.split('@', 1)[0] ?? name
  const colon = bare.lastIndexOf(':')
  return colon > bare.lastIndexOf('/') ? [bare.slice(0, colon), bare.slice(colon + 1)] : [bare, '<none>']
}
