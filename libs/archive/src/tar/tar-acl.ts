/**
 * Access control lists as tars have them: text, one entry after the other, separated by commas or
 * lines (`user::rwx,user:1000:r--,mask::r--`), in star's and libarchive's form with the number as a
 * fourth field (`user:alice:r--:1000`). Sources: star(4), "SCHILY.acl.access"; tar(5) of
 * libarchive; acl(5).
 */
const TAGS: Readonly<Record<string, readonly [unnamed: number, named: number | undefined]>> = {
  user: [0x01, 0x02],
  u: [0x01, 0x02],
  group: [0x04, 0x08],
  g: [0x04, 0x08],
  mask: [0x10, undefined],
  m: [0x10, undefined],
  other: [0x20, undefined],
  o: [0x20, undefined],
}
const NO_ID = 0xffffffff
const MAX_ENTRIES = 1024

/**
 * The value of `system.posix_acl_access` or `_default` that the text means
 * (linux/posix_acl_xattr.h). `undefined` where it cannot be told: it names users by names, which
 * only the machine that wrote it knows, or is no such text, or none that Linux takes. Then the file
 * has no list, as with the engines, which leave all of them out.
 */
export function aclFromText(text: string): Buffer | undefined {
  const entries = text
    .split(/[,\n]/)
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
  if (entries.length === 0 || entries.length > MAX_ENTRIES) return undefined
  const rows: [tag: number, permissions: number, id: number][] = []
  for (const entry of entries) {
    const row = rowOf(entry)
    if (!row) return undefined
    rows.push(row)
  }
  rows.sort(([a, , x], [b, , y]) => a - b || x - y)
  if (!isWhole(rows)) return undefined
  const value = Buffer.alloc(4 + 8 * rows.length)
  value.writeUInt32LE(2)
  for (const [at, [tag, permissions, id]] of rows.entries()) {
    value.writeUInt16LE(tag, 4 + 8 * at)
    value.writeUInt16LE(permissions, 6 + 8 * at)
    value.writeUInt32LE(id, 8 + 8 * at)
  }
  return value
}

/**
 * What the kernel takes (posix_acl_valid): owner, group and others once each, nobody twice, and a
 * mask where somebody is named.
 */
function isWhole(rows: readonly (readonly [tag: number, permissions: number, id: number])[]): boolean {
  const has = (tag: number): boolean => rows.some(([other]) => other === tag)
  const isTwice = rows.some(([tag, , id], at) => at > 0 && rows[at - 1]![0] === tag && rows[at - 1]![2] === id)
  return has(0x01) && has(0x04) && has(0x20) && !isTwice && (has(0x10) || (!has(0x02) && !has(0x08)))
}

function rowOf(entry: string): [tag: number, permissions: number, id: number] | undefined {
  const [kind = '', who = '', third = '', fourth = ''] = entry.split(':').map((field) => field.trim())
  // `mask::r--`, and star's short `mask:r--`.
  const [name, bits, number] = third === '' && /^[rwx-]{3}$/.test(who) ? ['', who, ''] : [who, third, fourth]
  const tags = Object.hasOwn(TAGS, kind) ? TAGS[kind] : undefined
  if (!tags || !/^[r-][w-][x-]$/.test(bits)) return undefined
  const permissions = (bits[0] === 'r' ? 4 : 0) + (bits[1] === 'w' ? 2 : 0) + (bits[2] === 'x' ? 1 : 0)
  if (name === '' && number === '') return [tags[0], permissions, NO_ID]
  const id = number === '' ? name : number
  if (tags[1] === undefined || !/^[0-9]{1,10}$/.test(id) || Number(id) >= NO_ID) return undefined
  return [tags[1], permissions, Number(id)]
}
