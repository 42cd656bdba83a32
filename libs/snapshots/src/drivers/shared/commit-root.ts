import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { failpoint } from '@strata/base'
import type { ChainId } from '@strata/oci'
import type { Layout } from '../../bookkeeping/layout.js'

/**
 * Gives a complete root its name. The record is the last file that is written. So after a loss of
 * power, a record that reached the disk in time stands for everything that was written before it.
 */
export function commitRoot(layout: Layout, chainId: ChainId, work: string, record: object): void {
  writeFileSync(join(work, 'root.json'), JSON.stringify(record))
  failpoint('assemble.made')
  renameSync(work, layout.root(chainId))
}
