import { expect, it } from 'vitest'
import { bytesOf, encodeBytes, shownName } from './name-bytes.js'

it.each<[string, Buffer, string]>([
  ['plain', Buffer.from('a b'), 'a b'],
  ['text', Buffer.from('é'), 'é'],
  ['a line and a colour', Buffer.from('a\n\x1b[31m'), 'a\\012\\033[31m'],
  ['a backslash', Buffer.from('a\\012'), 'a\\\\012'],
  ['no text', Buffer.from([0x61, 0xff, 0xc3]), 'a\\377\\303'],
  ['text that runs the other way', Buffer.from('a\u202eb'), 'a\\342\\200\\256b'],
])('a name is shown: %s', (_what, bytes, shown) => expect(shownName(bytes)).toBe(shown))

it('bytes go into a query and come out of an answer', () => {
  expect(encodeBytes(Buffer.from('/a b+é%'))).toBe('/a%20b%2b%c3%a9%25')
  expect(bytesOf('a\ufffd', 'Yf8=')).toEqual(Buffer.from([0x61, 0xff]))
})
