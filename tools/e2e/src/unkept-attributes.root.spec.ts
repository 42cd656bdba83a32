import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { concat, file, makeArchive, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import { lsetxattr } from '@strata/linux'
import { Readable } from 'node:stream'
import { afterEach, expect, it } from 'vitest'
import { busyboxLayer } from './testing/busybox-image.js'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
afterEach(async () => {
  await strata.dispose()
})

const NAME = 'user.large'
const VALUE = Buffer.alloc(60_000, 'v')

/** Whether the file system of the node keeps it: ext4 does not by default, XFS does. */
function isKept(): boolean {
  const folder = join(strata.folder, 'probe')
  mkdirSync(folder)
  try {
    lsetxattr(folder, NAME, VALUE)
    return true
  } catch {
    return false
  }
}

it.each(['erofs', 'overlay'])(
  'an attribute that the file system of the node does not keep is told in words, if the driver needs it: %s',
  async (driver) => {
    strata = await StrataUnderTest.start({ environment: { STRATA_SNAPSHOTTER: driver, STRATA_PREPARE: 'false' } })
    const layer = concat(paxHeader(pax(`SCHILY.xattr.${NAME}`, VALUE.toString())), file('f', ''), ZEROS)
    const archive = await makeArchive({
      names: ['attributes:1'],
      layers: [await busyboxLayer(), layer],
      config: { Env: ['PATH=/bin'] },
    })
    await strata.load(Readable.from([archive]))
    const { code, stdout, stderr } = await strata.cli(['run', '--rm', 'attributes:1', 'echo', 'hi'])
    if (driver === 'erofs' || isKept()) expect({ code, stdout: stdout.toString() }).toEqual({ code: 0, stdout: 'hi\n' })
    else {
      expect(code).not.toBe(0)
      expect(stderr).toMatch(
        /does not keep the extended attribute "user\.large" \(60000 bytes\) of "\/f" \(ENOSPC\): put/,
      )
      const answer = await strata.request('POST', '/v1/containers', { image: 'attributes:1', command: ['true'] })
      expect(answer.json<{ code: string }>().code).toBe('unsupported')
    }
  },
)
