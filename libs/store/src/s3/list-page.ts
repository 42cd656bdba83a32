import type { S3Client } from './s3-client.js'
import { S3Failure } from './s3-failure.js'
import { parseList, type ListedS3Object } from './s3-xml.js'

/** A page of a list, as the driver uses it. */
export interface ListedPage {
  readonly objects: readonly ListedS3Object[]
  /** The last key of the page, if the server has more behind it. */
  readonly next: string | undefined
}

/**
 * Empty pages in a row. A server gives one for some thousand deleted keys; one that gives more than
 * this will not come to an end.
 */
const MOST_EMPTY_PAGES = 1_000

/**
 * A page of the keys with `prefix` that sort behind `after` (ListObjectsV2). It is empty only if
 * there is no such key.
 *
 * S3 may answer a page without keys that is not the last one, where many keys were deleted. A
 * collector that took it for the end would take all images for garbage. So an empty page is
 * followed by its continuation token. A page is refused if it cannot be followed, if its token was
 * followed before, or if its keys are not those that were asked for.
 * @throws StrataError `store_unavailable`, also after 1,000 empty pages
 */
export async function listPage(
  client: S3Client,
  prefix: string,
  after: string | undefined,
  limit: number,
): Promise<ListedPage> {
  const query = {
    'list-type': '2',
    'max-keys': String(limit),
    prefix,
    ...(after === undefined ? {} : { 'start-after': after }),
  }
  const followed = new Set<string>()
  for (let token: string | undefined; ;) {
    const onward: Readonly<Record<string, string>> =
      token === undefined ? query : { ...query, 'continuation-token': token }
    const page = await client.attempt(async () => {
      const found = parseList((await client.send({ method: 'GET', query: onward })).text)
      checkKeys(found.objects, prefix, after)
      if (found.more && found.objects.length === 0) checkToken(found.token, followed, prefix)
      return found
    })
    const last = page.objects.at(-1)?.key
    if (!page.more || last !== undefined) return { objects: page.objects, next: page.more ? last : undefined }
    token = page.token
    followed.add(token)
  }
}

function checkToken(token: string, followed: ReadonlySet<string>, prefix: string): void {
  if (token === '' || followed.has(token))
    throw S3Failure.ofNonsense('an empty page that has no next one, and is not the last')
  if (followed.size === MOST_EMPTY_PAGES)
    throw S3Failure.ofNonsense(`${MOST_EMPTY_PAGES} empty pages of ${prefix} in a row, and none is the last`)
}

function checkKeys(objects: readonly ListedS3Object[], prefix: string, after = ''): void {
  let last = after
  for (const { key } of objects) {
    if (!key.startsWith(prefix) || key <= last)
      throw S3Failure.ofNonsense(`the key ${JSON.stringify(key)} in a list of ${prefix} behind ${JSON.stringify(last)}`)
    last = key
  }
}
