import { mkdtempSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mount, umount } from '@strata/linux'
import { expect, it } from 'vitest'
import { World } from '../testing/world.js'

it('a container is removed from a disk that takes no further file', async () => {
  const disk = mkdtempSync('/var/tmp/strata-full-disk-')
  mount('tmpfs', disk, 'tmpfs', 0, 'size=16m,nr_inodes=50')
  const own = await World.make({ folder: join(disk, 'containers') })
  try {
    const id = await own.start(['echo', 'text'])
    await own.containers.wait(id)
    let filled = 0
    const fill = (): void => {
      for (;;) writeFileSync(join(disk, `file-${filled++}`), '')
    }
    expect(fill).toThrow('ENOSPC')
    await own.containers.remove(id)
    expect(readdirSync(own.options.folder)).not.toContain(id)
    await own.restart()
    expect(own.containers.list()).toEqual([])
    await expect(own.containers.claim(id, own.claimOf({}))).rejects.toMatchObject({ code: 'container_not_found' })
  } finally {
    expect(await own.end()).toEqual([])
    umount(disk)
    rmdirSync(disk)
  }
})
