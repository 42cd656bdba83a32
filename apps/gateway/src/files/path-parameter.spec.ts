import { expect, it } from 'vitest'
import { bytesOfParameter } from './path-parameter.js'

it.each([
  ['/x?path=/etc/passwd', '/etc/passwd'],
  ['/x?layer=1&path=%2Fa%FF%zz%', '/a\xff%zz%'],
  ['/x?path=a+b%2Bc', 'a b+c'],
  ['/x?path=a=b', 'a=b'],
  ['/x?paths=a', ''],
  ['/x?path', ''],
  ['/x', ''],
  ['/x?path=first&path=second', 'first'],
  ['/x?path=a#path=b', 'a'],
])('the bytes of path in %s', (url, bytes) => expect(bytesOfParameter(url, 'path').toString('latin1')).toBe(bytes))
