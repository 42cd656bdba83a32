import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'

const ROOT = new URL('../../../', import.meta.url)
/** A number of the table: `20,000`, `64 KiB`, `5 s`. */
const UNITS: Record<string, number> = { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, ms: 1, s: 1_000 }
/** Names that the products in the code use. */
const NAMES: Record<string, number> = { MEBIBYTE: 2 ** 20, KIB: 2 ** 10, MIB: 2 ** 20 }

/** `4 * MEBIBYTE`, `2 ** 30`, `20_000`: what the code gives a name, behind `=` or `:`. */
function valueIn(code: string, name: string): number {
  const text = new RegExp(`\\b${name}(?: =|:) (\\d\\w*(?: \\*\\*? \\w+)*)`).exec(code)?.[1]
  if (text === undefined) throw new Error(`${name} has no number in the code`)
  return text.split(/ \* /).reduce((product, factor) => {
    const [base = '', exponent = '1'] = factor.split(' ** ')
    return product * (NAMES[base] ?? Number(base.replaceAll('_', ''))) ** Number(exponent)
  }, 1)
}

it('docs/security.md has the numbers of the limits that have no variable as the code has them', () => {
  const text = readFileSync(new URL('docs/security.md', ROOT), 'utf8')
  const rows = [...text.matchAll(/^\| .*? \| ([\d,]+) ?(\w*) \| `(\S+\.ts)` `(\w+)` \|$/gm)]
  expect(rows.length).toBeGreaterThan(40)
  for (const [row, number, unit, file, name] of rows)
    expect(valueIn(readFileSync(new URL(file!, ROOT), 'utf8'), name!), row).toBe(
      Number(number!.replaceAll(',', '')) * UNITS[unit!]!,
    )
})
