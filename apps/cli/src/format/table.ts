// What the service or an image says must not move the reader's cursor or change the terminal's
// colours.
// eslint-disable-next-line no-control-regex -- control characters are what this is about
const CONTROL = /[\x00-\x1f\x7f-\x9f]/g

export function printable(text: string): string {
  return text.replace(CONTROL, (character) =>
    JSON.stringify(character)
      .slice(1, -1)
      .replace(/[\x7f-\x9f]/, '\ufffd'),
  )
}

/**
 * Columns as docker prints them: each as wide as its widest cell, three blanks between, nothing
 * after the last.
 */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, ...rows.map((row) => row.map(printable))]
  const widths = header.map((_title, column) =>
    lines.reduce((width, line) => Math.max(width, line[column]?.length ?? 0), 0),
  )
  return lines
    .map(
      (line) =>
        `${line
          .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3))
          .join('')
          .trimEnd()}\n`,
    )
    .join('')
}

/** docker's short form of an id: twelve digits. */
export function shortId(id: string): string {
  return id.replace(/^sha(?:256|512):/, '').slice(0, 12)
}
