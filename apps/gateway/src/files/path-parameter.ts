/**
 * The bytes of a parameter in a request's query. A byte stands for itself or is percent-encoded;
 * `+` is a blank, as in forms. The framework gives parameters as text, which loses bytes that are
 * not UTF-8.
 */
export function bytesOfParameter(url: string, name: string): Buffer {
  const [, query = ''] = /\?([^#]*)/.exec(url) ?? []
  const given = query.split('&').find((part) => part === name || part.startsWith(`${name}=`))
  const value = given?.slice(name.length + 1) ?? ''
  // Node reads a request's target as latin1: each character is a byte.
  return Buffer.from(
    value
      .replaceAll('+', ' ')
      .replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
    'latin1',
  )
}
