import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { FolderStore } from '../folder/folder-store.js'
import { checkPublicReads, checkStoreConfig, openStore, publicReadsShape, storeConfigShape } from './open-store.js'

const schema = z.object({ ...storeConfigShape, STRATA_OTHER: z.string().optional() }).check(checkStoreConfig)
const full = {
  STRATA_STORE: 's3://images',
  STRATA_S3_ENDPOINT: 'http://127.0.0.1:9',
  STRATA_S3_ACCESS_KEY: 'key',
  STRATA_S3_SECRET_KEY: 'secret',
}

function wrong(given: Record<string, unknown>): string[] {
  return (schema.safeParse(given).error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
}

describe('the configuration of the store', () => {
  it('takes a folder, or s3 with all that it needs', () => {
    expect(wrong({ STRATA_STORE: '/var/lib/strata/store' })).toEqual([])
    expect(wrong(full)).toEqual([])
    expect(schema.parse(full).STRATA_S3_REGION).toBe('us-east-1')
    expect(wrong({ ...full, STRATA_S3_SECRET_KEY: undefined, STRATA_S3_SECRET_KEY_FILE: '/run/secrets/s3' })).toEqual(
      [],
    )
    expect(wrong({ ...full, STRATA_S3_ENDPOINT: 'https://s3.example.com' })).toEqual([])
  })

  it.each(['store', './store', 's3://', 's3://UPPER', 's3://a', 's3://bucket/folder', 'http://127.0.0.1/bucket', ''])(
    'refuses %s as a place',
    (place) => {
      expect(wrong({ ...full, STRATA_STORE: place })).toEqual([
        "STRATA_STORE: must be a folder's absolute path or s3://BUCKET",
      ])
    },
  )

  it.each(['127.0.0.1:9000', 'ftp://host', 'http://host/bucket', 'http://key:secret@host', 'http://host?x'])(
    'refuses %s as a server',
    (endpoint) => {
      expect(wrong({ ...full, STRATA_S3_ENDPOINT: endpoint })[0]).toMatch(/^STRATA_S3_ENDPOINT: must be http/)
    },
  )

  it('takes a public endpoint with s3 only, and addresses that end', () => {
    const schema = z
      .object({ ...storeConfigShape, ...publicReadsShape })
      .check(checkStoreConfig)
      .check(checkPublicReads)
    const faults = (given: Record<string, unknown>) =>
      (schema.safeParse(given).error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
    const STRATA_S3_PUBLIC_ENDPOINT = 'https://s3.example.com'
    expect(schema.parse({ ...full, STRATA_S3_PUBLIC_ENDPOINT }).STRATA_S3_PUBLIC_SECONDS).toBe(1_200)
    expect(faults({ STRATA_STORE: '/folder', STRATA_S3_PUBLIC_ENDPOINT })).toEqual([
      'STRATA_S3_PUBLIC_ENDPOINT: cannot be given, since STRATA_STORE is a folder: remove it',
    ])
    for (const endpoint of ['s3.example.com', 'ftp://host', 'https://host/bucket', 'https://key:secret@host'])
      expect(faults({ ...full, STRATA_S3_PUBLIC_ENDPOINT: endpoint })).toEqual([
        'STRATA_S3_PUBLIC_ENDPOINT: must be http://HOST[:PORT] or https://HOST[:PORT], with nothing behind',
      ])
    for (const seconds of ['0', '604801', '1.5', 'many'])
      expect(faults({ ...full, STRATA_S3_PUBLIC_SECONDS: seconds })).toHaveLength(1)
  })

  it('lists all that s3 lacks, together with what else is wrong', () => {
    expect(wrong({ STRATA_STORE: 's3://images', STRATA_OTHER: 7 }).map((line) => line.split(':')[0])).toEqual([
      'STRATA_OTHER',
      'STRATA_S3_ENDPOINT',
      'STRATA_S3_ACCESS_KEY',
      'STRATA_S3_SECRET_KEY',
    ])
    expect(wrong({ ...full, STRATA_S3_SECRET_KEY_FILE: '/x' })).toEqual([
      'STRATA_S3_SECRET_KEY_FILE: cannot be given together with STRATA_S3_SECRET_KEY',
    ])
    expect(wrong({})).toHaveLength(1)
  })
})

describe('openStore', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'strata-open-store-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  it('opens a folder', async () => {
    const store = await openStore(schema.parse({ STRATA_STORE: join(folder, 'store') }))
    expect(store).toBeInstanceOf(FolderStore)
    await store.close()
  })

  it.each(['', '1\n', '2\n', '3\n', '4\n'])('brings a folder of version %j to version 5', async (noted) => {
    const place = join(folder, 'store')
    mkdirSync(place)
    if (noted !== '') writeFileSync(join(place, 'version'), noted)
    await (await openStore(schema.parse({ STRATA_STORE: place }))).close()
    // An older release serves blobs that a client has deleted: it must not start here.
    expect(readFileSync(join(place, 'version'), 'utf8')).toBe('5\n')
  })

  it('reads the secret key from its file, and says so if it cannot', async () => {
    const config = schema.parse({
      ...full,
      STRATA_S3_SECRET_KEY: undefined,
      STRATA_S3_SECRET_KEY_FILE: join(folder, 'key'),
    })
    await expect(openStore(config)).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringMatching(/^STRATA_S3_SECRET_KEY_FILE cannot be read: ENOENT/) as string,
    })
    writeFileSync(join(folder, 'key'), '\n')
    await expect(openStore(config)).rejects.toMatchObject({ message: expect.stringMatching(/is empty$/) as string })
    writeFileSync(join(folder, 'key'), 'secret\n')
    await expect(openStore(config)).rejects.toMatchObject({
      message: 'the S3 server at http://127.0.0.1:9 cannot be reached (ECONNREFUSED)',
    })
  })
})
