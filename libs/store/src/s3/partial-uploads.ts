import type { PartialUpload } from '../objects/object-store.js'
import type { S3Client } from './s3-client.js'
import { S3Failure } from './s3-failure.js'
import { listPage } from './list-page.js'
import { parseParts, parseUploads } from './s3-xml.js'

/**
 * Prefix of the notes. Before an upload in parts begins, the driver makes an empty object that
 * notes its key. It deletes the note when the upload is over. MinIO needs this: it lists the
 * unfinished uploads of all keys from its memory only. After a restart they still exist, but only a
 * caller that knows the key finds them.
 */
export const NOTES = 'partial/'
const NOTES_PAGE = 1_000
/** The limit of S3 for one upload. */
const MOST_PARTS = 10_000
/** Pages in a row without an unfinished upload. */
const MOST_EMPTY_PAGES = 1_000

/** The key of the note of a key. */
export function noteOf(key: string): string {
  return `${NOTES}${key}`
}

/**
 * Aborts all uploads in parts to a key, and deletes its note. `only` is the id of the single
 * upload, for a caller that knows that there is one; then nothing is listed. `but` is the id of an
 * upload that goes on: it stays, and so does the note. Idempotent.
 */
export async function abandon(
  client: S3Client,
  key: string,
  signal?: AbortSignal,
  { only, but }: { readonly only?: string | undefined; readonly but?: string } = {},
): Promise<void> {
  await client.attempt(
    async () => {
      const uploads = only === undefined ? await uploadsOf(client, key, signal) : [{ id: only }]
      for (const { id } of uploads)
        if (id !== but) await unlessOver(() => client.send({ method: 'DELETE', key, query: { uploadId: id }, signal }))
      if (but === undefined) await client.send({ method: 'DELETE', key: noteOf(key), signal })
    },
    { signal },
  )
}

/**
 * Uploads in parts that are under way or whose process died, one for each key: those that the
 * server lists, and those that a note leads to.
 */
export async function* partialUploads(client: S3Client, prefix: string): AsyncGenerator<PartialUpload> {
  const known = new Set<string>()
  const partial = (key: string, startedAt: Date): PartialUpload => ({
    key,
    startedAt,
    size: () => sizeOf(client, key),
    abort: () => abandon(client, key),
  })
  for await (const { key, startedAt } of allUploads(client, prefix)) {
    if (known.has(key) || !key.startsWith(prefix)) continue
    known.add(key)
    yield partial(key, startedAt)
  }
  let after: string | undefined
  do {
    const { objects, next } = await listPage(client, noteOf(prefix), after, NOTES_PAGE)
    for (const { key: note, modified } of objects) {
      const key = note.slice(NOTES.length)
      if (!known.has(key)) yield partial(key, modified)
    }
    after = next
  } while (after !== undefined)
}

/** The bytes of the parts that the server has. */
async function sizeOf(client: S3Client, key: string): Promise<number> {
  let size = 0
  for (const { id } of await client.attempt(() => uploadsOf(client, key))) {
    for (let marker: string | undefined = '0'; marker !== undefined;) {
      const query: Readonly<Record<string, string>> = { uploadId: id, 'part-number-marker': marker }
      const page = await client.attempt(() =>
        unlessOver(async () => {
          const found = parseParts((await client.send({ method: 'GET', key, query })).text)
          checkPartMarker(found.next, query['part-number-marker'])
          return found
        }),
      )
      size += page?.bytes ?? 0
      marker = page?.next
    }
  }
  return size
}

/** Part numbers ascend, so a list of parts has an end. */
function checkPartMarker(next: string | undefined, last: string | undefined): void {
  if (next === undefined) return
  if (!/^[0-9]{1,5}$/.test(next) || Number(next) > MOST_PARTS || Number(next) <= Number(last))
    throw S3Failure.ofNonsense(`parts behind ${last} go on behind ${JSON.stringify(next)}`)
}

/**
 * The unfinished uploads to a key. The prefix is the whole key, because MinIO reads its disks only
 * for such a list.
 */
async function uploadsOf(client: S3Client, key: string, signal?: AbortSignal): Promise<{ readonly id: string }[]> {
  const { Upload } = parseUploads(
    (await client.send({ method: 'GET', query: { uploads: '', prefix: key }, signal })).text,
  )
  return Upload.filter((one) => one.Key === key).map(({ UploadId }) => ({ id: UploadId }))
}

async function* allUploads(
  client: S3Client,
  prefix: string,
): AsyncGenerator<{ readonly key: string; readonly startedAt: Date }> {
  let marker = { key: '', id: '' }
  for (let empty = 0; ;) {
    const query: Readonly<Record<string, string>> = {
      uploads: '',
      prefix,
      ...(marker.key === '' ? {} : { 'key-marker': marker.key, 'upload-id-marker': marker.id }),
    }
    const page = await client.attempt(async () => {
      const found = parseUploads((await client.send({ method: 'GET', query })).text)
      if (found.IsTruncated === 'false') return found
      if (
        found.NextKeyMarker < marker.key ||
        (found.NextKeyMarker === marker.key && found.NextUploadIdMarker === marker.id)
      )
        throw S3Failure.ofNonsense('a page of unfinished uploads that has no next one, and is not the last')
      if (found.Upload.length === 0 && empty === MOST_EMPTY_PAGES)
        throw S3Failure.ofNonsense(`${MOST_EMPTY_PAGES} pages without an unfinished upload, and none is the last`)
      return found
    })
    for (const { Key: key, Initiated: startedAt } of page.Upload) yield { key, startedAt }
    if (page.IsTruncated === 'false') return
    empty = page.Upload.length === 0 ? empty + 1 : 0
    marker = { key: page.NextKeyMarker, id: page.NextUploadIdMarker }
  }
}

async function unlessOver<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof S3Failure && error.code === 'NoSuchUpload') return undefined
    throw error
  }
}
