import { StrataError } from '@strata/base'

/** runtime-spec, config.md, "POSIX-platform User". */
export interface User {
  readonly uid: number
  readonly gid: number
  readonly additionalGids: readonly number[]
  /** For HOME: passwd's, or `/`. */
  readonly home: string
}

/**
 * The kernel takes 2^32 - 2, but int32 is what every consumer agrees on (CVE-2024-40635: larger
 * ones became 0).
 */
const MAX_ID = 2 ** 31 - 1
const DIGITS = /^[0-9]+$/

/**
 * Who runs: `name`, `uid`, `name:group`, `uid:gid` and mixtures, by the root's own `/etc/passwd`
 * and `/etc/group` (their texts; '' if absent).
 *
 * Digits are always a number, never looked up as a name: a passwd line whose *name* is digits must
 * not decide who they are (CVE-2026-46680). A number needs no line; a name does. As docker: a group
 * given explicitly replaces the supplementary ones, and the primary group is among them.
 * @throws StrataError `launch_failed`
 */
export function resolveUser(text: string, passwd: string, group: string): User {
  const colon = text.indexOf(':')
  const userPart = colon < 0 ? text : text.slice(0, colon)
  const groupPart = colon < 0 ? '' : text.slice(colon + 1)
  const users = [...lines(passwd)]
  const wanted = userPart === '' ? 0 : DIGITS.test(userPart) ? id(userPart, text) : undefined
  const line = users.find(([name, , uid]) =>
    wanted === undefined ? name === userPart : DIGITS.test(uid ?? '') && Number(uid) === wanted,
  )
  if (wanted === undefined && !line)
    throw refuse(text, `there is no user ${JSON.stringify(userPart)} in the container's /etc/passwd`)
  const uid = wanted ?? id(line?.[2], text)
  const home = line?.[5]?.startsWith('/') ? line[5] : '/'
  const groups = [...lines(group)]
  if (groupPart !== '') {
    const gid = DIGITS.test(groupPart) ? id(groupPart, text) : groupNamed(groupPart, groups, text)
    return { uid, gid, additionalGids: [gid], home }
  }
  const gid = line ? id(line[3], text) : 0
  const name = line?.[0]
  const supplementary = name
    ? groups.filter(([, , , members]) => members?.split(',').includes(name)).map(([, , number]) => id(number, text))
    : []
  return { uid, gid, additionalGids: [...new Set([gid, ...supplementary])], home }
}

function groupNamed(name: string, groups: string[][], text: string): number {
  const line = groups.find((fields) => fields[0] === name)
  if (!line) throw refuse(text, `there is no group ${JSON.stringify(name)} in the container's /etc/group`)
  return id(line[2], text)
}

function id(digits: string | undefined, text: string): number {
  if (digits === undefined || !DIGITS.test(digits))
    throw refuse(text, `${JSON.stringify(digits ?? '')} is not a number`)
  const number = Number(digits)
  if (number > MAX_ID) throw refuse(text, `${digits} is above ${MAX_ID}`)
  return number
}

function* lines(text: string): Generator<string[]> {
  for (const line of text.split('\n')) if (line !== '' && !line.startsWith('#')) yield line.trim().split(':')
}

function refuse(text: string, why: string): StrataError {
  return new StrataError('launch_failed', `cannot run as user ${JSON.stringify(text.slice(0, 200))}: ${why}`)
}
