import { isUtf8 } from 'node:buffer'

/**
 * Bytes in the form that JSON can carry: as text, and in base64 beside it if they are not UTF-8.
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
