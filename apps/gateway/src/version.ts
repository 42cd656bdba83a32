import { readFileSync } from 'node:fs'

/** As in this package's own description. */
export const VERSION = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version
