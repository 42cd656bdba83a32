import { compareBytes } from './bytes.js'
import { MAX_MAJOR, type IndexColumns } from './columns.js'
import { corrupt } from './format.js'
import { FLAG, KIND, type Kind } from '../kind.js'
import { meaningOf } from './layer-path.js'
import { isKept } from './xattr-rules.js'

const MAX_KIND = KIND.whiteout
const DIRECTORY_FLAGS = FLAG.implied | FLAG.opaque | FLAG.whiteout
const ALL_FLAGS = DIRECTORY_FLAGS | FLAG.sparse | FLAG.xattrs

/**
 * Every rule of the format, so that no reader has to doubt an index again: an index comes from a
 * store that others may write to, and from disks that rot. Errors: `corrupt`, with the entry's
 * number.
 */
export function validate(columns: IndexColumns): void {
  const { entries, tarSize } = columns
  const count = entries.kind.length
  if (!Number.isSafeInteger(tarSize) || tarSize < 0) throw corrupt('the size of its tar is no size')
  if (
    count === 0 ||
    entries.kind[0] !== KIND.directory ||
    entries.nameEnd[0] !== 0 ||
    entries.textEnd[0] !== 0 ||
    entries.parent[0] !== 0
  )
    throw corrupt('its first entry is not the root')
  checkXattrs(columns)
  checkSparse(columns)
  for (let entry = 0; entry < count; entry++) {
    if (entry > 0) checkName(columns, entry)
    checkEntry(columns, entry)
  }
  if (entries.textEnd[count - 1] !== columns.names.length) throw corrupt('its names do not fill their space')
}

function checkName({ entries, names }: IndexColumns, entry: number): void {
  const { parent, nameEnd, textEnd } = entries
  const start = textEnd[entry - 1]!
  const end = nameEnd[entry]!
  const bad = (why: string): never => {
    throw corrupt(`entry ${entry} ${why}`)
  }
  if (!(start < end && end <= textEnd[entry]! && textEnd[entry]! <= names.length) || end - start > 255)
    bad('has a name outside the bounds')
  for (let at = start; at < end; at++)
    if (names[at] === 0x2f || names[at] === 0) bad('has a slash or a zero byte in its name')
  if (
    names[start] === 0x2e &&
    (end - start === 1 || (end - start === 2 && names[start + 1] === 0x2e) || meaningOf(names, start, end) !== 'name')
  )
    bad('has a forbidden name')
  const above = parent[entry]!
  const before = entry === 1 ? 0 : parent[entry - 1]!
  if (above >= entry || above < before || entries.kind[above] !== KIND.directory)
    bad('does not stand below an earlier directory')
  if (
    entry > 1 &&
    above === before &&
    compareBytes(names, textEnd[entry - 2]!, nameEnd[entry - 1]!, names, start, end) >= 0
  )
    bad('is out of order')
}

function checkEntry({ entries, names, tarSize }: IndexColumns, entry: number): void {
  const kind = entries.kind[entry] as Kind
  const flags = entries.flags[entry]!
  const value = entries.value[entry]!
  const size = entries.size[entry]!
  const text = entries.textEnd[entry]! - entries.nameEnd[entry]!
  const must = (rule: boolean, why: string): void => {
    if (!rule) throw corrupt(`entry ${entry} ${why}`)
  }
  must(kind <= MAX_KIND && (flags & ~ALL_FLAGS) === 0, 'is of an unknown kind')
  must(
    (entries.mode[entry]! & ~0o7777) === 0 &&
      entries.nanos[entry]! <= 999_999_999 &&
      Number.isSafeInteger(entries.mtime[entry]),
    'has impossible attributes',
  )
  must((flags & DIRECTORY_FLAGS) === 0 || kind === KIND.directory, 'has marks that only a directory has')
  must((flags & FLAG.sparse) === 0 || kind === KIND.file, 'is sparse and no file')
  must((flags & FLAG.xattrs) === 0 || kind < KIND.link, 'has attributes and is no inode')
  must(Number.isSafeInteger(size) && size >= 0 && (size === 0 || kind === KIND.file), 'has an impossible size')
  must(Number.isSafeInteger(value) && value >= 0, 'has an impossible value')
  switch (kind) {
    case KIND.file:
      must(text === 0, 'has a text')
      if (size > 0 && (flags & FLAG.sparse) === 0)
        must(value % 512 === 0 && value >= 512 && value + size <= tarSize, 'has data outside the tar')
      else must(value === 0, 'has data where none can be')
      break
    case KIND.symlink:
      must(
        value === 0 &&
          text > 0 &&
          text <= 4095 &&
          !names.subarray(entries.nameEnd[entry], entries.textEnd[entry]).includes(0),
        'has an impossible target',
      )
      break
    case KIND.char:
    case KIND.block:
      must(
        text === 0 && value < (MAX_MAJOR + 1) * 0x100000 && (value > 0 || kind === KIND.block),
        'has an impossible device number',
      )
      break
    case KIND.link:
      must(text === 0 && value < entry && isLinkable(entries.kind[value]!), 'is a link to nothing')
      break
    case KIND.lowerLink:
      must(
        value === 0 && isCleanPath(names.subarray(entries.nameEnd[entry], entries.textEnd[entry])),
        'is a link to an impossible path',
      )
      break
    default:
      must(value === 0 && text === 0, 'has values that its kind does not have')
  }
}

function isLinkable(kind: number): boolean {
  return kind !== KIND.directory && kind !== KIND.link && kind !== KIND.whiteout
}

function isCleanPath(path: Buffer): boolean {
  return (
    path.length > 0 &&
    path.length <= 4095 &&
    path
      .toString('latin1')
      .split('/')
      .every((part) => part !== '' && part !== '.' && part !== '..' && !part.includes('\0'))
  )
}

/** Owners in order and marked; every set and attribute used, and nothing outside its bounds. */
function checkXattrs({ entries, xattrs }: IndexColumns): void {
  const { owner, set, setEnd, members, nameEnd, valueEnd, bytes } = xattrs
  let end = 0
  for (let attribute = 0; attribute < nameEnd.length; attribute++) {
    const [name, value] = [nameEnd[attribute]!, valueEnd[attribute]!]
    if (!(end < name && name <= value && value <= bytes.length) || name - end > 255 || value - name > 0xffff)
      throw corrupt(`extended attribute ${attribute} is outside its bounds`)
    if (!isKept(bytes.toString('latin1', end, name)))
      throw corrupt(`extended attribute ${attribute} is one that no layer keeps`)
    end = value
  }
  if (end !== bytes.length) throw corrupt('its extended attributes do not fill their space')
  let [member, attributes] = [0, 0]
  for (let number = 0; number < setEnd.length; number++) {
    if (!(member < setEnd[number]! && setEnd[number]! <= members.length))
      throw corrupt(`set ${number} of extended attributes is outside its bounds`)
    for (; member < setEnd[number]!; member++) {
      if (members[member]! > attributes || members[member]! >= nameEnd.length)
        throw corrupt(`set ${number} of extended attributes has one out of order`)
      if (members[member] === attributes) attributes++
    }
  }
  if (member !== members.length || attributes !== nameEnd.length) throw corrupt('it has extended attributes of no set')
  let sets = 0
  for (let row = 0; row < owner.length; row++) {
    const entry = owner[row]!
    const inOrder =
      entry < entries.kind.length &&
      (row === 0 || entry > owner[row - 1]!) &&
      (entries.flags[entry]! & FLAG.xattrs) !== 0
    if (!inOrder || set[row]! > sets || set[row]! >= setEnd.length)
      throw corrupt(`owner ${row} of extended attributes is out of order`)
    if (set[row] === sets) sets++
  }
  if (sets !== setEnd.length) throw corrupt('it has extended attributes of no entry')
  let owners = 0
  for (let entry = 0; entry < entries.kind.length; entry++) if ((entries.flags[entry]! & FLAG.xattrs) !== 0) owners++
  if (owners !== owner.length) throw corrupt('it has entries that say they have extended attributes, and have none')
}

/** Owners in order and marked, ranges in order and apart, nothing outside its bounds. */
function checkSparse({ entries, sparse, tarSize }: IndexColumns): void {
  for (let row = 0; row < sparse.owner.length; row++) {
    const owner = sparse.owner[row]!
    const offset = sparse.offset[row]!
    const size = sparse.size[row]!
    const data = sparse.data[row]!
    const inOrder =
      owner < entries.kind.length &&
      (row === 0 || owner >= sparse.owner[row - 1]!) &&
      (entries.flags[owner]! & FLAG.sparse) !== 0
    const behind = row > 0 && sparse.owner[row - 1] === owner ? sparse.offset[row - 1]! + sparse.size[row - 1]! : 0
    const whole = [offset, size, data].every((value) => Number.isSafeInteger(value) && value >= 0)
    if (
      !inOrder ||
      !whole ||
      size === 0 ||
      offset < behind ||
      offset + size > entries.size[owner]! ||
      data + size > tarSize
    )
      throw corrupt(`sparse range ${row} is outside its bounds`)
  }
}
