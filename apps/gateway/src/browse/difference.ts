import { setImmediate } from 'node:timers/promises'
import type { DiffView } from '@strata/api'
import { diffTrees, type MergedTree } from '@strata/layers'
import { StrataError } from '@strata/base'
import { changeView } from './file-views.js'

/** How many paths are compared before other requests get a turn of the event loop. */
export const PATHS_AT_ONCE = 250

/**
 * A page ends after the change that makes its paths longer than this, in bytes. Each of ten
 * thousand paths may have 4,095 bytes, and a path that is not UTF-8 takes four times as much in
 * JSON with base64.
 */
export const MAX_PAGE_PATHS = 4 * 1024 * 1024

export interface DifferencePage {
  /** The cursor of the page before. Without one the page is the first. */
  readonly after?: string | undefined
  /** How many changes the page has at most. */
  readonly limit: number
}

/**
 * One page of the difference of two trees.
 *
 * Laws
 * - A page begins where its cursor stands, by binary search: the work for a page does not grow with
 *   its place.
 * - Only the first page has the sums. They take one walk over both trees.
 * - Other requests are answered meanwhile: after PATHS_AT_ONCE paths the event loop gets a turn.
 *
 * @param gone aborts when the client has left
 * @throws StrataError `bad_request` for a cursor that is none, `cancelled` if the client has left
 */
export async function difference(
  before: MergedTree,
  after: MergedTree,
  page: DifferencePage,
  gone: AbortSignal,
): Promise<DiffView> {
  const isFirst = page.after === undefined
  const sums = {
    added: { count: 0, bytes: 0 },
    changed: { count: 0, bytes: 0 },
    removed: { count: 0, bytes: 0 },
    unread: { count: 0, bytes: 0 },
  }
  const changes: DiffView['changes'] = []
  let last: Buffer | undefined
  let pathBytes = 0
  let next: string | undefined
  let paths = 0
  for (const step of diffTrees(before, after, page.after === undefined ? undefined : pathOf(page.after))) {
    if (++paths % PATHS_AT_ONCE === 0) {
      await setImmediate()
      if (gone.aborted) throw new StrataError('cancelled', 'the client has left')
    }
    if (step.kind === 'same') continue
    const sum = sums[step.kind === 'alike' ? 'unread' : step.kind]
    sum.count++
    sum.bytes += step.kind === 'removed' ? before.size(before.inode(step.before)) : after.size(after.inode(step.after))
    if (step.kind === 'alike' || next !== undefined) continue
    if (last !== undefined && (changes.length >= page.limit || pathBytes > MAX_PAGE_PATHS)) {
      next = cursorOf(last)
      if (!isFirst) break
      continue
    }
    last = step.kind === 'removed' ? before.path(step.before) : after.path(step.after)
    pathBytes += last.length
    changes.push(changeView(before, after, step, last))
  }
  return { ...(isFirst ? sums : {}), changes, ...(next === undefined ? {} : { next }) }
}

/**
 * A cursor is the path of a page's last change, with a slash before it because the root's path is
 * empty.
 */
function cursorOf(path: Buffer): string {
  return Buffer.concat([SLASH, path]).toString('base64url')
}

function pathOf(cursor: string): Buffer {
  const bytes = Buffer.from(cursor, 'base64url')
  if (bytes[0] !== SLASH[0])
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(cursor)} is no cursor: give what "next" of the page before says`,
    )
  return bytes.subarray(1)
}

const SLASH = Buffer.from('/')
