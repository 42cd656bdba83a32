import { StrataError } from '@strata/base'

/**
 * A line of a Dockerfile: its first word in capitals, the flags after it, and the rest as written.
 */
export interface Instruction {
  readonly name: string
  readonly flags: readonly string[]
  readonly rest: string
}

/**
 * The instructions of a text. A backslash at the end of a line joins it with the next one. Empty
 * lines and comments are skipped.
 */
export function readInstructions(text: string): Instruction[] {
  if (text.includes('\0')) throw new StrataError('bad_request', 'a change holds a NUL')
  const found: Instruction[] = []
  let pending = ''
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*(?:#|$)/.test(line)) continue
    const [, continued] = /^(.*)\\[ \t]*$/.exec(line) ?? []
    pending += continued ?? line
    if (continued !== undefined) continue
    found.push(instructionOf(pending))
    pending = ''
  }
  if (pending.trim() !== '') found.push(instructionOf(pending))
  if (found.length === 0)
    throw new StrataError('bad_request', 'a change is empty: give an instruction, such as CMD, ENV or LABEL')
  return found
}

function instructionOf(line: string): Instruction {
  const text = line.trim()
  const space = text.search(/\s/)
  const name = space < 0 ? text : text.slice(0, space)
  const flags: string[] = []
  let rest = space < 0 ? '' : text.slice(space).trimStart()
  for (let flag = FLAG.exec(rest); flag; flag = FLAG.exec(rest)) {
    flags.push(flag[1]!)
    rest = rest.slice(flag[0].length)
  }
  return { name: name.toUpperCase(), flags, rest }
}

const FLAG = /^(--\S+)(?:\s+|$)/
