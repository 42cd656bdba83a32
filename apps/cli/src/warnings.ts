import { complain } from './terminal.js'

/** What a service says beside its answers (distribution-spec after 1.1.1, "Warnings"). */
const WARNING = /299 - "((?:[^"\\]|\\.)*)"/g
/** The specification's bound of what a service may send. */
const MAX_BYTES = 4_096
const MAX_SHOWN = 20
const shown = new Set<string>()

/** Shows the warnings of an answer on stderr, each once in this process. */
export function showWarnings(header: string | undefined): void {
  for (const [, quoted = ''] of (header ?? '').slice(0, MAX_BYTES).matchAll(WARNING)) {
    // Node has a character for each byte of a header.
    const text = Buffer.from(quoted.replace(/\\(.)/g, '$1'), 'latin1').toString()
    if (shown.has(text) || shown.size >= MAX_SHOWN) continue
    shown.add(text)
    complain(text, 'Warning')
  }
}
