import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { StrataError } from '@strata/base'
import type { z } from 'zod'

/**
 * Values that only nodes may read travel sealed through Redis: AES-256-GCM under a key derived from
 * the nodes' shared secret, which lies in a file and never in Redis. Form: base64(iv 12 | tag 16 |
 * ciphertext). `context` (the container's id) is authenticated, so that a sealed value cannot be
 * moved to another job.
 */
export class Sealer {
  readonly #key: Buffer
  constructor(secret: Buffer) {
    this.#key = Buffer.from(hkdfSync('sha256', secret, '', 'strata sealed job values v1', 32))
  }

  seal(value: unknown, context: string): string {
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', this.#key, iv).setAAD(Buffer.from(context))
    const body = Buffer.concat([cipher.update(JSON.stringify(value), 'utf8'), cipher.final()])
    return Buffer.concat([iv, cipher.getAuthTag(), body]).toString('base64')
  }

  open<T>(schema: z.ZodType<T>, sealed: string, context: string): T {
    const bytes = Buffer.from(sealed, 'base64')
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.#key, bytes.subarray(0, 12), { authTagLength: 16 })
        .setAAD(Buffer.from(context))
        .setAuthTag(bytes.subarray(12, 28))
      return schema.parse(
        JSON.parse(Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString('utf8')),
      )
    } catch (cause) {
      throw new StrataError('bad_request', 'the sealed part of the job does not open with the key of this node', {
        cause,
      })
    }
  }
}
