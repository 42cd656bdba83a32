import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { StrataError } from '@strata/base'
import { bootId } from '@strata/linux'
import { z } from 'zod'
import { replaceFile } from './atomic.js'
import { isContainerId } from './claim.js'

const NOTE = 'served-as'
const noteSchema = z.object({ node: z.string(), runFolder: z.string(), bootId: z.string() })
type Note = z.infer<typeof noteSchema>

/** The folder of all bundles. */
export const bundlesIn = (runFolder: string): string => join(runFolder, 'bundles')

/**
 * Notes in `<folder>/served-as` by which name, and with which run folder, the containers of
 * `folder` are served from here on.
 *
 * Bundles, cgroups and the runtime's state are found by these two only. A service with another name
 * or run folder would call containers dead that run, and the next one with the old name would end
 * them. So it does not start while the noted run folder has the bundle of a container: one that
 * runs, or whose exit code nobody has read. After a reboot none of them does.
 * @throws StrataError `in_use`
 */
export async function noteServedAs(folder: string, node: string, runFolder: string): Promise<void> {
  // One folder has many paths: /run and /var/run, with a slash at its end or without.
  const note: Note = { node, runFolder: realpathSync(runFolder), bootId: bootId() }
  const before = read(folder)
  if (before?.bootId === note.bootId) {
    if (before.node === note.node && before.runFolder === note.runFolder) return
    const [id] = containersIn(before.runFolder)
    if (id !== undefined)
      throw new StrataError(
        'in_use',
        `${folder} belongs to the node ${before.node} with the run folder ${before.runFolder}, and its container ${id.slice(0, 12)} may still run: start the service as that node (STRATA_NODE=${before.node}, STRATA_RUN_FOLDER=${before.runFolder}), and stop its containers first`,
      )
  }
  await replaceFile(join(folder, NOTE), `${JSON.stringify(note)}\n`, { durable: false })
}

/** What cannot be read was cut off by a loss of power: behind that nothing runs. */
function read(folder: string): Note | undefined {
  const path = join(folder, NOTE)
  if (!existsSync(path)) return undefined
  try {
    return noteSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    return undefined
  }
}

function containersIn(runFolder: string): string[] {
  const bundles = bundlesIn(runFolder)
  return existsSync(bundles) ? readdirSync(bundles).filter(isContainerId) : []
}
