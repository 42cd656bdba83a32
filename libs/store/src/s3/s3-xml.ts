import type { IncomingHttpHeaders } from 'node:http'
import { XMLParser } from 'fast-xml-parser'
import { z } from 'zod'
import type { Etag, ListedObject } from '../objects/object-store.js'
import { S3Failure } from './s3-failure.js'

// No text is converted to a number or left out: keys and ETags are text, whatever they look like.
const parser = new XMLParser({
  parseTagValue: false,
  htmlEntities: true,
  ignoreDeclaration: true,
  isArray: (name) => ['Contents', 'Upload', 'Part', 'Error'].includes(name),
})
const error = z.object({ Code: z.string().default(''), Message: z.string().default('') })
const list = z.object({
  IsTruncated: z.enum(['true', 'false']),
  KeyCount: z.coerce.number().int().optional(),
  NextContinuationToken: z.string().default(''),
  Contents: z
    .array(
      z.object({ Key: z.string(), Size: z.coerce.number().int(), ETag: z.string(), LastModified: z.coerce.date() }),
    )
    .default([]),
})
const uploads = z.object({
  IsTruncated: z.enum(['true', 'false']),
  NextKeyMarker: z.string().default(''),
  NextUploadIdMarker: z.string().default(''),
  Upload: z.array(z.object({ Key: z.string(), UploadId: z.string().min(1), Initiated: z.coerce.date() })).default([]),
})
const parts = z.object({
  IsTruncated: z.enum(['true', 'false']),
  NextPartNumberMarker: z.string().default(''),
  Part: z.array(z.object({ Size: z.coerce.number().int() })).default([]),
})

/**
 * The element `root` of an answer. Half an answer must not count as a complete one: a collector
 * that read too few names of images would take the other images for garbage. So the text must be
 * complete and have the form of the schema.
 */
function parse<T>(text: string, root: string, schema: z.ZodType<T>): T {
  if (!text.trimEnd().endsWith(`</${root}>`)) throw S3Failure.ofNonsense(`no whole ${root}`)
  const document = parser.parse(text) as Record<string, unknown>
  // An empty element is parsed as an empty text.
  const element = Array.isArray(document[root]) ? (document[root] as unknown[])[0] : document[root]
  const parsed = schema.safeParse(element === '' ? {} : element)
  if (!parsed.success) throw S3Failure.ofNonsense(`no ${root}`, parsed.error)
  return parsed.data
}

/**
 * The failure that an answer describes. The answer to a HEAD has no body: some servers put the code
 * into a header.
 */
export function errorFrom(status: number, headers: IncomingHttpHeaders, text: string): S3Failure {
  const { Code, Message } = parseError(text)
  return S3Failure.ofAnswer(status, Code || String(headers['x-minio-error-code'] ?? ''), Message)
}

function parseError(text: string): z.infer<typeof error> {
  try {
    return parse(text, 'Error', error)
  } catch {
    return { Code: '', Message: '' }
  }
}

export interface ListedS3Object extends ListedObject {
  readonly modified: Date
}

/** A page of ListObjectsV2. `token` continues the list, if there is `more`. */
export function parseList(text: string): {
  readonly objects: ListedS3Object[]
  readonly more: boolean
  readonly token: string
} {
  const { Contents, IsTruncated, KeyCount, NextContinuationToken } = parse(text, 'ListBucketResult', list)
  if (KeyCount !== undefined && KeyCount !== Contents.length)
    throw S3Failure.ofNonsense(`${Contents.length} keys of ${KeyCount}`)
  return {
    objects: Contents.map(({ Key, Size, ETag, LastModified }) => ({
      key: Key,
      size: Size,
      etag: etagFrom(ETag),
      modified: LastModified,
    })),
    more: IsTruncated === 'true',
    token: NextContinuationToken,
  }
}

/** A page of ListMultipartUploads, with the fields of S3. */
export function parseUploads(text: string): z.infer<typeof uploads> {
  return parse(text, 'ListMultipartUploadsResult', uploads)
}

/** A page of ListParts: the sum of its sizes, and the marker of the next page. */
export function parseParts(text: string): { readonly bytes: number; readonly next: string | undefined } {
  const { IsTruncated, NextPartNumberMarker, Part } = parse(text, 'ListPartsResult', parts)
  return {
    bytes: Part.reduce((sum, { Size }) => sum + Size, 0),
    next: IsTruncated === 'true' ? NextPartNumberMarker : undefined,
  }
}

/** The upload id that CreateMultipartUpload has given. */
export function parseUploadId(text: string): string {
  return parse(text, 'InitiateMultipartUploadResult', z.object({ UploadId: z.string().min(1) })).UploadId
}

/**
 * The ETag of the object that was completed. The answer begins before the work is done, so an error
 * may stand in a body with the status 200.
 */
export function parseCompleted(text: string): Etag {
  const failed = parseError(text)
  if (failed.Code) throw S3Failure.ofAnswer(failed.Code === 'NoSuchUpload' ? 404 : 500, failed.Code, failed.Message)
  return etagFrom(parse(text, 'CompleteMultipartUploadResult', z.object({ ETag: z.string() })).ETag)
}

/** The failure of the first key that could not be deleted. */
export function parseDeleted(text: string): S3Failure | undefined {
  const { Error: errors } = parse(text, 'DeleteResult', z.object({ Error: z.array(error).optional() }))
  const real = errors?.find(({ Code }) => Code !== 'NoSuchKey')
  return real && S3Failure.ofAnswer(500, real.Code, real.Message)
}

/** The body of CompleteMultipartUpload. */
export function completeXml(tags: readonly Etag[]): Buffer {
  const parts = tags.map((tag, at) => `<Part><PartNumber>${at + 1}</PartNumber><ETag>"${tag}"</ETag></Part>`)
  return Buffer.from(
    `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join('')}</CompleteMultipartUpload>`,
  )
}

/**
 * The body of DeleteObjects. The keys have passed `checkKey`. Of the characters that XML reserves
 * they can contain only the apostrophe, which needs no escape here.
 */
export function deleteXml(keys: readonly string[]): Buffer {
  return Buffer.from(
    `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>${keys.map((key) => `<Object><Key>${key}</Key></Object>`).join('')}</Delete>`,
  )
}

/** The ETag without its quotes: some servers write quotes and some do not. */
export function etagFrom(text: string | undefined): Etag {
  const tag = (text ?? '').replace(/^(W\/)?"|"$|&quot;/g, '')
  if (tag === '') throw S3Failure.ofNonsense('no ETag')
  return tag as Etag
}
