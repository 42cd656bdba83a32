import { readFileSync } from 'node:fs'
import { ERROR_CODES } from '@strata/base'
import { PROBLEMS } from '@strata/platform'
import { expect, it } from 'vitest'

const DOCUMENT = new URL('../../../docs/errors.md', import.meta.url)

it('docs/errors.md has each code once, with its status, and what to do', () => {
  const text = readFileSync(DOCUMENT, 'utf8')
  const rows = [...text.matchAll(/^\| `(.*?)` \| (.*?) \|(.*)$/gm)]
  expect(rows.map(([, code, status]) => `${code!} ${status!}`).sort()).toEqual(
    ERROR_CODES.map((code) => `${code} ${PROBLEMS[code].status}`).sort(),
  )
  for (const [row, , , rest] of rows) expect(rest, row).toMatch(/^ \S.*? \| \S.*? \|$/)
})
