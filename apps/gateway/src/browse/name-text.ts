import { isUtf8 } from 'node:buffer'

/**
 * Bytes as JSON has them: text, and beside it the bytes themselves where the text is not all of
 * them.
 */
export function textOf<K extends string>(
  key: K,
  bytes: Buffer,
): Record<K, string> & Partial<Record<`${K}Base64`, string>> {
  return {
    [key]: bytes.toString(),
    ...(isUtf8(bytes) ? {} : { [`${key}Base64`]: bytes.toString('base64') }),
  } as Record<K, string> & Partial<Record<`${K}Base64`, string>>
}
