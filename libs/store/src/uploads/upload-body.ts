import { asStrataError } from '@strata/base'
import type { ContinuedHash } from '@strata/linux'

/** The source has more bytes than it may have. */
export class TooLarge extends Error {}

/**
 * Passes the bytes of a source on, hashed and counted. If the source fails, it ends here: what came
 * before is kept.
 */
export class UploadBody {
  size = 0
  failure: Error | undefined

  constructor(
    private readonly source: AsyncIterable<Uint8Array>,
    private readonly most: number,
    private readonly hash: ContinuedHash | undefined,
  ) {}

  async *bytes(): AsyncGenerator<Uint8Array> {
    try {
      for await (const bytes of this.source) {
        if (this.size + bytes.length > this.most) throw new TooLarge()
        this.hash?.update(bytes)
        this.size += bytes.length
        yield bytes
      }
    } catch (error) {
      this.failure = error instanceof Error ? error : asStrataError(error)
    }
  }
}
