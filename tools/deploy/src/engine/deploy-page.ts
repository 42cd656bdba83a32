import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../compose-file.js'

/**
 * The commands below a heading of docs/deploy.md, one string for each block, with the words that an
 * operator replaces replaced: so a test runs what the page says.
 *
 *     commandsOf('Upgrade and rollback', { VERSION: 'v2' })
 */
export function commandsOf(heading: string, words: Readonly<Record<string, string>> = {}): readonly string[] {
  const page = readFileSync(join(ROOT, 'docs/deploy.md'), 'utf8')
  const section = page.split(/^#+ (?=\S)/m).find((text) => text.startsWith(`${heading}\n`))
  if (section === undefined) throw new Error(`docs/deploy.md has no heading "${heading}"`)
  const blocks = [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block)
  return Object.entries(words).reduce((texts, [word, value]) => {
    // HOST is a word of its own, and no part of STRATA_HOST.
    const whole = new RegExp(`\\b${word}\\b`, 'g')
    if (!texts.some((text) => text.search(whole) >= 0)) throw new Error(`"${heading}" has no ${word}`)
    return texts.map((text) => text.replace(whole, () => value))
  }, blocks)
}
