import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, rename, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { openFixture } from '@strata/archive/testing'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
})
beforeEach(async () => {
  for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
  if (folder) await rm(folder, { recursive: true })
  folder = await mkdtemp('/var/tmp/strata-layout-')
  execFileSync('tar', ['-C', folder, '-x'], { input: await buffer(openFixture('skopeo-oci-gzip.tar')) })
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const load = async () => {
  const { code, stdout, stderr } = await strata.cli(['load', folder])
  return { code, stdout: stdout.toString(), stderr }
}

it('the folder of an image layout loads, and what else lies there is not read', async () => {
  await writeFile(join(folder, 'secret'), 'x')
  execFileSync('mkfifo', [join(folder, 'blobs', 'fifo')])
  expect(await load()).toMatchObject({
    code: 0,
    stdout: 'Loaded image: fx/odd:3\n',
    stderr: expect.stringContaining('OCI image layout: 1 image, 3 new layers (1.23MB)') as string,
  })
})

it('a link inside the folder is followed, one out of it is not', async () => {
  const blobs = join(folder, 'blobs', 'sha256')
  const blob = async (): Promise<string> => (await readdir(blobs))[0]!
  await rename(join(blobs, await blob()), join(folder, 'blobs', 'moved'))
  const name = execFileSync('sha256sum', [join(folder, 'blobs', 'moved')])
    .toString()
    .slice(0, 64)
  await symlink('../moved', join(blobs, name))
  expect(await load()).toMatchObject({ code: 0, stdout: 'Loaded image: fx/odd:3\n' })

  // The very bytes that are wanted, outside: had the link been followed, this would load.
  const outside = `${folder}-outside`
  try {
    await rename(join(folder, 'blobs', 'moved'), outside)
    await unlink(join(blobs, name))
    await symlink(outside, join(blobs, name))
    expect(await load()).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/is a link to \S+-outside, outside the archive/) as string,
    })
    await rename(join(folder, 'blobs'), `${outside}-blobs`)
    await symlink(`${outside}-blobs`, join(folder, 'blobs'))
    expect(await load()).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('which is not in the archive') as string,
    })
  } finally {
    await rm(outside, { force: true })
    await rm(`${outside}-blobs`, { recursive: true, force: true })
  }
})

it('what is no layout, or a damaged one, is said', async () => {
  const blobs = join(folder, 'blobs', 'sha256')
  await truncate(join(blobs, (await readdir(blobs))[0]!), 10)
  expect(await load()).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /Error response: the blob sha256:\w+ of the archive is|bytes; the archive’s manifests say/,
    ) as string,
  })
  await unlink(join(folder, 'index.json'))
  expect(await load()).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('is a folder, and no OCI image layout') as string,
  })
})
