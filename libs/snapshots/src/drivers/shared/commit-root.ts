import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { failpoint } from '@strata/base'
import type { ChainId } from '@strata/oci'
import type { Layout } from '../../bookkeeping/layout.js'

/**
 * Gives a complete root its name. Its record is the last file that is written: after a loss of
 * power, a record that was on disk early enough speaks for everything that was written before it.
 */
export function commitRoot(layout: Layout, chainId: ChainId, work: string, record: object): void {
  writeFileSync(join(work, 'root.json'), JSON.stringify(record))
  failpoint('assemble.made')
  renameSync(work, layout.root(chainId))
}
