import { stderr, stdout } from './output.js'

/*
 * What the CLI writes for people. Everything that the service, an archive or an image says goes
 * through here, because any of it may be hostile. Bytes on purpose do not: `cat`, `save`, `export`,
 * and the output of containers (`run`, `logs`), which is the container's own and goes to stdout and
 * stderr as it is, as docker's does.
 */

/**
 * What a terminal obeys (C0, DEL, C1: U+009B is what ESC [ is), and what changes the order or the
 * lines of what it shows (Unicode's bidirectional controls, and its line and paragraph separators).
 * A part of a regular expression.
 */
export const UNSAFE = String.raw`\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069`
const UNSAFE_IN_A_LINE = new RegExp(`[${UNSAFE}]`, 'g')
const UNSAFE_IN_RENDERED = new RegExp(`(?![\n\t])[${UNSAFE}]`, 'g')
const UNSAFE_IN_TEXT = new RegExp(`(?!\n)[${UNSAFE}]`, 'g')

/**
 * A text for one line: whatever could move the cursor, colour or reorder it is written as JSON
 * escapes it.
 */
export function printableLine(text: string): string {
  return text.replace(UNSAFE_IN_A_LINE, escaped)
}

/** The same for several lines: line feeds stay. JSON stays JSON, with the same values. */
export function printableText(text: string): string {
  return text.replace(UNSAFE_IN_TEXT, escaped)
}

function escaped(character: string): string {
  const text = JSON.stringify(character).slice(1, -1)
  return text.startsWith('\\') ? text : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** One line on stdout. */
export function print(line: string): void {
  stdout.write(`${printableLine(line)}\n`)
}

/** Several lines on stdout. */
export function printText(text: string): void {
  stdout.write(`${printableText(text)}\n`)
}

/**
 * What a template of the user made, which may have tabs on purpose. Line feeds and tabs of others
 * stay too: they move nothing but text.
 */
export function printRendered(text: string): void {
  stdout.write(`${text.replace(UNSAFE_IN_RENDERED, escaped)}\n`)
}

/** Lines on stderr that are no error: stdout has the result and nothing else. */
export function note(text: string): void {
  stderr.write(`${printableText(text)}\n`)
}

/** What went wrong, on stderr. */
export function complain(text: string, speaker = 'strata'): void {
  note(`${speaker}: ${text}`)
}
