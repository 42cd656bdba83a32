import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ODD_TARS } from '../testing/odd-tars.js'
import { openReaders, type Reader } from '../testing/readers.js'

/**
 * What `TarReader` makes of each odd tar (`readers.ts` says how to read this), and which of the
 * others are known to read it otherwise. Why, stands in docs/security.md, "Where readers of tars
 * differ".
 */
const OURS: Readonly<Record<string, [reading: string, differing?: string]>> = {
  'PAX size over a header that says 0': ['outer 1024'],
  'PAX size, then a long name, then the file': ['real 3, next 1'],
  'two PAX headers before one file': ['two 1', 'bsdtar, Python'],
  'a size on a symbolic link': ['l (l), inner 1', 'GNU tar, tar-stream'],
  'a size on a hard link': ['t 1, l (h), inner 1', 'tar-stream'],
  'a size on a folder': ['d/, inner 1'],
  'a size on a device': ['c (c), inner 1', 'GNU tar, tar-stream'],
  'a v7 file whose name ends in a slash': ['d/', 'tar-stream'],
  'a type that nobody knows': ['!', 'GNU tar, bsdtar, Python, tar-stream, Go'],
  'type 7, contiguous': ['c 3'],
  'one block of zeros in the middle': ['a 1, !', 'GNU tar, bsdtar, Python, tar-stream'],
  'entries behind the end': ['a 1', 'tar-stream'],
  'no end at all': ['a 1'],
  'a wrong checksum in the middle': ['a 1, !', 'GNU tar, bsdtar, Python'],
  'a checksum of signed bytes': ['\xff\xfe 2', 'bsdtar, tar-stream'],
  'a global path': ['!', 'GNU tar, bsdtar, Python, tar-stream, Go'],
  'a global size': ['!', 'GNU tar, bsdtar, Python, tar-stream, Go'],
  'a NUL in a PAX path': ['!', 'GNU tar, bsdtar, Python, tar-stream'],
  'a PAX record longer than its header': ['!', 'GNU tar, bsdtar, Python, tar-stream'],
  'a long name and a PAX path': ['long 1', 'GNU tar, bsdtar, Python, tar-stream'],
  'a negative size': ['!', 'GNU tar, Python, tar-stream'],
  'a size with letters': ['!', 'GNU tar, tar-stream'],
  'sparse of PAX 1.0': ['real 2000, next 1', 'tar-stream'],
  'sparse pieces that overlap': ['!', 'GNU tar, bsdtar, Python, tar-stream'],
  'an old prefix in a GNU header': ['n 1', 'Python, Go'],
  'a PAX size of nothing': ['a 3, next 1', 'GNU tar, bsdtar, Python'],
}

describe('readers of odd tars', () => {
  let readers: readonly Reader[]
  let opened: ReturnType<typeof openReaders>
  beforeAll(() => {
    opened = openReaders()
    readers = opened.readers
  })
  afterAll(() => opened.close())

  it('ours reads each as is written here', async () => {
    const readings = await Promise.all(
      Object.entries(ODD_TARS).map(async ([name, tar]) => [name, await readers[0]!.read(tar)]),
    )
    expect(Object.fromEntries(readings)).toEqual(
      Object.fromEntries(Object.entries(OURS).map(([name, [reading]]) => [name, reading])),
    )
  })

  it.for(['GNU tar', 'bsdtar', 'Python', 'tar-stream', 'Go'])(
    '%s agrees where it is not known to differ',
    async (name, context) => {
      const reader = readers.find((each) => each.name === name)!
      if (reader.why !== undefined) context.skip(reader.why)
      for (const [tar, [reading, differing = '']] of Object.entries(OURS)) {
        if (!differing.split(', ').includes(name)) expect(await reader.read(ODD_TARS[tar]!), tar).toBe(reading)
      }
    },
  )
})
