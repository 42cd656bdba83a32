import { closeSync, openSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { flock } from '@strata/linux'
import { MARGIN_MS, type SyncMarkFile } from './sync-mark.js'
import { walkKeys } from './walk.js'

const ASK_EVERY_MS = 20

export interface FirstOfBoot {
  readonly root: string
  readonly objects: string
  readonly mark: SyncMarkFile
  /** The kernel's run, see `bootId`. */
  readonly boot: string
  readonly sync: (folder: string) => Promise<void>
  /** Mends the store; `tail` has the keys, in their order, of what may not have reached the disk in an earlier boot. */
  readonly mend: (tail: readonly string[]) => Promise<void>
}

/**
 * The first process that opens the store in a boot looks at what an earlier one committed after its last finished sync; who comes meanwhile waits. It may die at any
 * line: the mark is written last, so the next one does it again.
 */
export async function firstOfBoot({ root, objects, mark, boot, sync, mend }: FirstOfBoot): Promise<void> {
  if (mark.read()?.boot === boot) return
  const lock = openSync(join(root, 'locks', 'boot'), 'a', 0o600)
  try {
    while (!flock(lock, 'ex', { nonblock: true })) await delay(ASK_EVERY_MS)
    const last = mark.read()
    if (last?.boot === boot) return
    for (const name of readdirSync(root)) if (name.startsWith('synced.')) rmSync(join(root, name))
    const tail = await changedSince(objects, last ? last.syncedAt - MARGIN_MS : -Infinity)
    const start = Date.now()
    if (tail.length > 0) {
      await mend(tail)
      await sync(root)
    }
    await mark.write({ boot, syncedAt: start })
  } finally {
    closeSync(lock)
  }
}

async function changedSince(objects: string, time: number): Promise<string[]> {
  const keys: string[] = []
  for await (const key of walkKeys(objects, '', '')) if (statSync(join(objects, key)).ctimeMs >= time) keys.push(key)
  return keys
}
