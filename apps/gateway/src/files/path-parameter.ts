/**
 * The bytes of a parameter of a request's query, each as it stands or percent-encoded, `+` a blank
 * as in forms. The framework has it as text, in which bytes that are not UTF-8 are lost.
 */
export function bytesOfParameter(url: string, name: string): Buffer {
  const [, query = ''] = /\?([^#]*)/.exec(url) ?? []
  const given = query.split('&').find((part) => part === name || part.startsWith(`${name}=`))
  const value = given?.slice(name.length + 1) ?? ''
  // Node takes a request's target as latin1: a character is a byte.
  return Buffer.from(
    value
      .replaceAll('+', ' ')
      .replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))),
    'latin1',
  )
}
