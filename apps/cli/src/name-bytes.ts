import { readFileSync } from 'node:fs'
import { UNSAFE } from './terminal.js'

/** What JSON says of a name: its text, and its bytes where the text is not all of them. */
export function bytesOf(text: string, base64: string | undefined): Buffer {
  return base64 === undefined ? Buffer.from(text) : Buffer.from(base64, 'base64')
}

/** For a request's query: every byte but the plainest percent-encoded. */
export function encodeBytes(bytes: Buffer): string {
  return bytes
    .toString('latin1')
    .replace(/[^A-Za-z0-9/._-]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/**
 * The bytes of an argument. Node has it as text, in which bytes that are not UTF-8 are lost: then
 * they are asked of the kernel.
 */
export function argumentBytes(text: string): Buffer {
  if (!text.includes('\ufffd')) return Buffer.from(text)
  for (const argument of readFileSync('/proc/self/cmdline', 'latin1').split('\0')) {
    const bytes = Buffer.from(argument, 'latin1')
    if (bytes.toString() === text) return bytes
  }
  return Buffer.from(text)
}

/**
 * A name for a line of a list: what a terminal would obey, a backslash, and what is no text,
 * escaped as `ls -b` does.
 */
export function shownName(bytes: Buffer): string {
  const text = bytes.toString()
  if (Buffer.from(text).equals(bytes))
    return text.replace(CONTROL, (character) => [...Buffer.from(character)].map(octal).join(''))
  return [...bytes]
    .map((byte) => (byte < 0x20 || byte >= 0x7f || byte === 0x5c ? octal(byte) : String.fromCharCode(byte)))
    .join('')
}

const CONTROL = new RegExp(String.raw`[${UNSAFE}\\]`, 'g')

function octal(byte: number): string {
  return byte === 0x5c ? '\\\\' : `\\${byte.toString(8).padStart(3, '0')}`
}
