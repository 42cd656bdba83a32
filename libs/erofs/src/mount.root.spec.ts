import {
  closeSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { lgetxattr, llistxattr, mount, MS_NODEV, MS_NOSUID, MS_RDONLY, umount } from '@strata/linux'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { S_IFMT, TYPE } from './format.js'
import { oddTree, type MadeTree } from './testing/made-tree.js'
import { writeErofs } from './write.js'

/** A real disk: EROFS from files does not mount where they lie on overlayfs. */
const folder = mkdtempSync('/var/tmp/strata-erofs-')
const [image, first, second, root] = ['image', 'a.tar', 'b.tar', 'root'].map((name) => join(folder, name)) as [
  string,
  string,
  string,
  string,
]
let tree: MadeTree

const blocks = Buffer.alloc(4 * 512)
for (let at = 0; at < blocks.length; at++) blocks[at] = (at * 7 + (at >> 9)) & 0xff

function walk(path: Buffer, shown: string, found: Map<string, Record<string, unknown>>): void {
  const stat = lstatSync(path, { bigint: true })
  const type = Number(stat.mode) & S_IFMT
  const nanos = ((stat.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n
  const entry: Record<string, unknown> = {
    mode: Number(stat.mode),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtime: Number((stat.mtimeNs - nanos) / 1_000_000_000n),
    nanos: Number(nanos),
    links: Number(stat.nlink),
    xattrs: llistxattr(path)
      .map((name) => `${name.toString()}=${(lgetxattr(path, name) as Buffer).toString('hex')}`)
      .filter((xattr) => !xattr.startsWith('security.selinux'))
      .sort(),
  }
  if (type === TYPE.file) entry['size'] = Number(stat.size)
  if (type === TYPE.symlink) entry['symlink'] = readlinkSync(path)
  if (type === TYPE.char || type === TYPE.block) {
    const rdev = Number(stat.rdev)
    entry['rdev'] = `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`
  }
  found.set(shown, entry)
  if (type !== TYPE.directory) return
  for (const name of readdirSync(path, { encoding: 'buffer' }))
    walk(Buffer.concat([path, Buffer.from('/'), name]), `${shown}/${name.toString('latin1')}`, found)
}

// fsck.erofs is no help here: up to 1.5 it reads images of 4096-byte blocks only. The kernel is the
// judge.
describe('an image of metadata over two files, mounted by the kernel', () => {
  beforeAll(() => {
    tree = oddTree([{ blocks: 4 }, { blocks: 2 }])
    const fd = openSync(image, 'wx')
    writeErofs(tree, (chunk) => writeSync(fd, chunk))
    closeSync(fd)
    writeFileSync(first, blocks)
    writeFileSync(second, blocks.subarray(512, 1536))
    mkdirSync(root)
    mount(image, root, 'erofs', MS_RDONLY | MS_NOSUID | MS_NODEV, `device=${first},device=${second}`)
  })

  afterAll(() => {
    try {
      umount(root)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('shows every name with all its attributes', () => {
    const found = new Map<string, Record<string, unknown>>()
    walk(Buffer.from(root), '', found)
    expect(found).toEqual(tree.expected())
  })

  it('finds each name by itself, where the kernel searches and does not list', () => {
    for (const path of tree.expected().keys()) expect(() => lstatSync(Buffer.from(root + path, 'latin1'))).not.toThrow()
    expect(() => lstatSync(join(root, 'dir500', 'name-500'))).toThrow('ENOENT')
  })

  it('reads the data from where they lie', () => {
    expect(readFileSync(join(root, 'first')).equals(blocks.subarray(512, 1212))).toBe(true)
    expect(readFileSync(join(root, 'twice')).equals(blocks.subarray(512, 1536))).toBe(true)
    expect(readFileSync(join(root, 'acl')).equals(blocks.subarray(1536, 1537))).toBe(true)
    expect(readFileSync(join(root, 'empty'))).toHaveLength(0)
    expect(lstatSync(join(root, 'second')).ino).toBe(lstatSync(join(root, 'twice')).ino)
  })
})
