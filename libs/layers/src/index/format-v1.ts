import type { XattrColumns } from './columns.js'

/**
 * Extended attributes of an index of version 1: a row is an owner with a name and a value of its
 * own, and an owner's rows stand together.
 */
type XattrRows = Pick<XattrColumns, 'owner' | 'nameEnd' | 'valueEnd' | 'bytes'>

/**
 * The same as attributes and sets, none of them shared: each run of one owner is a set. What is
 * wrong in the rows is wrong in these, and found by `validate`.
 */
export function sharedFromRows({ owner, nameEnd, valueEnd, bytes }: XattrRows): XattrColumns {
  const rows = owner.length
  const isFirst = (row: number): boolean => row === 0 || owner[row] !== owner[row - 1]
  let sets = 0
  for (let row = 0; row < rows; row++) if (isFirst(row)) sets++
  const shared = {
    owner: new Uint32Array(sets),
    set: new Uint32Array(sets),
    setEnd: new Uint32Array(sets),
    members: new Uint32Array(rows),
  }
  let set = -1
  for (let row = 0; row < rows; row++) {
    if (isFirst(row)) {
      set++
      shared.owner[set] = owner[row]!
      shared.set[set] = set
    }
    shared.setEnd[set] = row + 1
    shared.members[row] = row
  }
  return { ...shared, nameEnd, valueEnd, bytes }
}
