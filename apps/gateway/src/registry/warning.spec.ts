import { digestOf, parseReference, type Tag } from '@strata/oci'
import { expect, it } from 'vitest'
import { warningOf } from './warning.js'

const { repository } = parseReference('team/app')
const tag = { tag: '1' as Tag }
const on = (day: string) => warningOf({ endOfLife: '2024-11-12' }, repository, tag, new Date(`${day}T12:00:00Z`))

it('warns of what is deprecated, from its day on, by the name that was asked for', () => {
  expect(warningOf(undefined, repository, tag)).toEqual({})
  expect(warningOf({}, repository, tag)).toEqual({ warning: '299 - "team/app:1 is deprecated"' })
  const digest = digestOf('')
  expect(warningOf({}, repository, { digest })).toEqual({ warning: `299 - "team/app@${digest} is deprecated"` })
  expect(on('2024-11-11')).toEqual({})
  for (const day of ['2024-11-12', '2025-01-01'])
    expect(on(day)).toEqual({ warning: '299 - "team/app:1 is deprecated (end of life: 2024-11-12)"' })
})

it('has a bounded length, and characters that need no escape', () => {
  const long = parseReference(`ghcr.io/${'a'.repeat(247)}`).repository
  const { warning = '' } = warningOf({ endOfLife: '2024-11-12' }, long, { digest: digestOf('', 'sha512') })
  expect(warning.length).toBeLessThan(500)
  expect(warning).toMatch(/^299 - "[\w./:@() -]+"$/)
})
