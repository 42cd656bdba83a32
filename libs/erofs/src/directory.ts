import { BLOCK, DIRENT } from './format.js'
import { ErofsError, type ErofsSource } from './source.js'

const DOT = 0x2e

/**
 * One entry of a directory as it lies on disk, `.` and `..` among the others where byte order puts
 * them.
 */
export interface DirentVisitor {
  /** `dirent` is the source's number, or SELF or PARENT. */
  (dirent: number, nameLength: number): void
}
export const SELF = -1
export const PARENT = -2

/**
 * Walks a directory's entries in the order of the disk. Names that sort before `.` (a space, `-`,
 * …) and between the two dots are rare, so the first two bytes of a name are looked at only until
 * both dots have been placed.
 */
export function eachDirent(source: ErofsSource, inode: number, scratch: Uint8Array, visit: DirentVisitor): void {
  const first = source.firstDirent(inode)
  const end = first + source.direntCount(inode)
  let dots = 0
  for (let dirent = first; dirent < end; dirent++) {
    const length = source.nameLength(dirent)
    if (length < 1 || length > 255)
      throw new ErofsError('ENAMETOOLONG', `a name of ${length} bytes: EROFS holds 1 to 255`)
    if (dots < 2) {
      source.copyName(dirent, scratch, 0)
      if (dots === 0 && scratch[0]! >= DOT) {
        visit(SELF, 1)
        dots = 1
      }
      if (dots === 1 && (scratch[0]! > DOT || (length > 1 && scratch[1]! >= DOT))) {
        visit(PARENT, 2)
        dots = 2
      }
    }
    visit(dirent, length)
  }
  if (dots === 0) visit(SELF, 1)
  if (dots <= 1) visit(PARENT, 2)
}

/**
 * Bytes of the directory: whole blocks, but for the last, which ends with its last name. Entries
 * never cross a block.
 */
export function directorySize(source: ErofsSource, inode: number, scratch: Uint8Array): number {
  let blocks = 0
  let used = 0
  eachDirent(source, inode, scratch, (_dirent, length) => {
    if (used + DIRENT + length > BLOCK) {
      blocks++
      used = 0
    }
    used += DIRENT + length
  })
  return blocks * BLOCK + used
}
