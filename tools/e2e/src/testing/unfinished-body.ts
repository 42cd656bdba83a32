import { PassThrough } from 'node:stream'
import { header } from '@strata/archive/testing'

/** A body that never ends by itself: an archive's entry of which some has come. */
export function unfinishedBody(): PassThrough {
  const body = new PassThrough()
  body.on('error', () => undefined)
  body.write(header({ name: 'big', size: 50_000_000 }))
  body.write(Buffer.alloc(700_000))
  return body
}
