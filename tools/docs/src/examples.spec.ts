import { describe, expect, it } from 'vitest'
import { examples, NEED_MORE, run, typeErrors } from './examples.js'

describe('the examples of the libraries’ READMEs', () => {
  it('compile', { timeout: 120_000 }, async () => {
    expect(await typeErrors(examples())).toEqual([])
  })

  it.each(examples().filter(({ library }) => !NEED_MORE.has(library)))(
    'run and print what they say: $library',
    async (example) => {
      expect(await run(example)).toEqual(example.prints)
    },
  )
})
