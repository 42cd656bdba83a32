import { expect, it } from 'vitest'
import { textOf } from './name-text.js'

it('a name that is no text has its bytes beside it', () => {
  expect(textOf('name', Buffer.from('é'))).toEqual({ name: 'é' })
  expect(textOf('name', Buffer.from([0x61, 0xff]))).toEqual({ name: 'a\ufffd', nameBase64: 'Yf8=' })
})
