import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FolderVersion } from './folder-version.js'

let folder: string
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'strata-version-'))))
afterEach(() => rmSync(folder, { recursive: true }))

describe('the version of a folder', () => {
  it('is a file that is written whole', async () => {
    const version = new FolderVersion('the folder', folder)
    expect(await version.read()).toBeUndefined()
    // What a process that died in the middle left.
    writeFileSync(join(folder, 'version.new'), '12345')
    await version.write(12)
    await version.write(3)
    expect(await new FolderVersion('the folder', folder).read()).toBe(3)
    expect(readFileSync(join(folder, 'version'), 'utf8')).toBe('3\n')
    expect(readdirSync(folder)).toEqual(['version'])
  })

  it.each(['', 'x', '0', '1.5', '{"version":1}', 'null'])('is not guessed: %j', async (text) => {
    writeFileSync(join(folder, 'version'), text)
    const error = await new FolderVersion('the folder', folder).read().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'EUNUSABLE' })
    expect(String(error)).toMatch(/\/version (is empty|is not JSON|is not a version): if no release newer .* remove/)
  })

  it('is changed by one at a time, in a folder that may not be there yet', async () => {
    const below = join(folder, 'a', 'b')
    let inside = 0
    const most: number[] = []
    const turn = (): Promise<void> =>
      new FolderVersion('the folder', below).exclusively(async () => {
        most.push(++inside)
        await new Promise((resolve) => setImmediate(resolve))
        inside--
      })
    await Promise.all([turn(), turn(), turn()])
    expect(most).toEqual([1, 1, 1])
  })
})
