import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ContainerView, ImageSummary, ImageView } from '@strata/api'
import { bootId } from '@strata/linux'
import { openStore, storeConfigShape } from '@strata/store'
import type { TestS3 } from '@strata/store/testing'
import { z } from 'zod'

/** What an older release left, by its commit (old-data/README.md). */
export const OLD_RELEASES = ['d5153a4'] as const
type OldRelease = (typeof OLD_RELEASES)[number]

/** Of every fixture: its node has to be the one that it was. */
const OLD_NODE = 'old-data'
export const OLD_ENVIRONMENT = { STRATA_NODE: OLD_NODE, STRATA_RUN_FOLDER: `/run/strata/${OLD_NODE}` }

/** What the old release said of its data. */
export interface OldAnswers {
  readonly lists: readonly ImageSummary[]
  /** `archive`: the sha256 of what `save` gave. */
  readonly images: readonly { readonly view: ImageView; readonly archive: string }[]
  readonly logs: string
  readonly containers: Readonly<Record<'ended' | 'running' | 'created', ContainerView['id']>>
  readonly jobs: Readonly<Record<'load' | 'launch' | 'unfinished', string>>
}

/**
 * The release and this test are of one boot. Otherwise a load that waits is ended, since what it
 * wrote last may be lost.
 */
function stayInThisBoot(data: string): void {
  for (const path of globSync('{store,node/*}/synced', { cwd: data })) {
    rmSync(join(data, path))
    symlinkSync(`${bootId()} ${Date.now()}`, join(data, path))
  }
}

/**
 * Unpacks a fixture: its data folder in the place of `data`, which is empty, and its objects into
 * the bucket of `s3`, which is made.
 */
export async function unpackOldData(release: OldRelease, data: string, s3?: TestS3): Promise<OldAnswers> {
  const name = s3 ? 'bucket' : 'folder'
  const folder = fileURLToPath(new URL(`../../old-data/${release}/`, import.meta.url))
  const archive = join(folder, `${name}.tar.zst`)
  const sum = createHash('sha256').update(readFileSync(archive)).digest('hex')
  if (!readFileSync(join(folder, 'SHA256SUMS'), 'utf8').includes(`${sum}  ${name}.tar.zst\n`))
    throw new Error(`${archive} is not what its release made: put it back from the repository`)
  const parts = mkdtempSync(join(dirname(data), 'old-'))
  try {
    execFileSync('tar', [
      '--xattrs',
      '--xattrs-include=*',
      '--numeric-owner',
      '-I',
      'zstd',
      '-C',
      parts,
      '-xf',
      archive,
    ])
    rmSync(data, { recursive: true })
    renameSync(join(parts, 'data'), data)
    stayInThisBoot(data)
    if (s3) await fillBucket(s3, join(parts, 'bucket'))
    return JSON.parse(readFileSync(join(parts, 'expected.json'), 'utf8')) as OldAnswers
  } finally {
    rmSync(parts, { recursive: true, force: true })
  }
}

/**
 * Byte for byte as the old release left it: without the note of a version that opening it makes.
 */
async function fillBucket(s3: TestS3, folder: string): Promise<void> {
  const store = await openStore(z.object(storeConfigShape).parse(s3.environment()))
  try {
    const there = await store.list('')
    await store.delete(there.objects.map(({ key }) => key))
    for (const path of readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((one) => join(folder, one)))
      if (statSync(path).isFile()) await store.put(relative(folder, path), readFileSync(path))
  } finally {
    await store.close()
  }
}
