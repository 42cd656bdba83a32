import { describe, expect, it } from 'vitest'
import { TYPE } from './format.js'
import { ErofsError, type ErofsSource } from './source.js'
import { MadeTree, oddTree, type MadeInode } from './testing/made-tree.js'
import { readErofs } from './testing/reader.js'
import { writeErofs } from './write.js'

function imageOf(source: ErofsSource): Buffer {
  const chunks: Buffer[] = []
  const { bytes } = writeErofs(source, (chunk) => chunks.push(Buffer.from(chunk)))
  const image = Buffer.concat(chunks)
  expect(image.length).toBe(bytes)
  return image
}

const DIRECTORY = TYPE.directory | 0o755
const oneFile = (file: Partial<MadeInode>, blocks = 100): MadeTree =>
  new MadeTree(
    [
      { mode: DIRECTORY, children: { f: 1 } },
      { mode: TYPE.file | 0o600, ...file },
    ],
    [{ blocks }],
  )

describe('writeErofs', () => {
  it('writes what an independent reader finds again', () => {
    const tree = oddTree([
      { blocks: 4, tag: 'a' },
      { blocks: 2, tag: 'b' },
    ])
    const found = readErofs(imageOf(tree))
    expect(found.byPath).toEqual(tree.expected())
    expect(found.data.get('/first')).toEqual({ device: 0, offset: 512 })
    expect(found.data.get('/second')).toEqual({ device: 1, offset: 0 })
    expect(found.data.get('/empty')).toBeUndefined()
  })

  it('writes an empty root', () => {
    expect([...readErofs(imageOf(new MadeTree([{ mode: DIRECTORY }]))).byPath.keys()]).toEqual([''])
  })

  it('writes the same bytes again', () => {
    const devices = [{ blocks: 4 }, { blocks: 2 }]
    expect(imageOf(oddTree(devices)).equals(imageOf(oddTree(devices)))).toBe(true)
  })

  it('keeps the root where 16 bits reach, whatever the number of devices', () => {
    const devices = Array.from({ length: 10_000 }, () => ({ blocks: 1 }))
    expect(readErofs(imageOf(new MadeTree([{ mode: DIRECTORY }], devices))).byPath.size).toBe(1)
  })

  it('puts the devices behind each other, to the last block of 32 bits', () => {
    const image = imageOf(oneFile({ size: 512, offset: 0xfffffff0 * 512 - 512 }, 0xfffffff0))
    expect(readErofs(image).data.get('/f')).toEqual({ device: 0, offset: 0xfffffff0 * 512 - 512 })
  })

  it('writes once what many inodes have', () => {
    const large = [['user.large', Buffer.alloc(60_000)]] as const
    const files = Array.from({ length: 1000 }, () => ({ mode: TYPE.file | 0o644, xattrs: large }))
    const tree = new MadeTree([
      { mode: DIRECTORY, children: Object.fromEntries(files.map((_, index) => [`f${index}`, index + 1])) },
      ...files,
    ])
    const image = imageOf(tree)
    expect(image.length).toBeLessThan(250_000)
    expect(readErofs(image).byPath).toEqual(tree.expected())
  })

  it.each<[string, ErofsSource, string]>([
    ['more than 2 TiB', oneFile({ size: 1 }, 0xffffffff), 'EFBIG'],
    ['data beyond their device', oneFile({ size: 513, offset: 99 * 512 }), 'EINVAL'],
    ['data that begin within a block', oneFile({ size: 1, offset: 100 }), 'EINVAL'],
    ['data on no device', oneFile({ size: 1, device: 1 }), 'EINVAL'],
    ['a root that is a file', new MadeTree([{ mode: TYPE.file | 0o644 }]), 'EINVAL'],
    [
      'a name of 256 bytes',
      new MadeTree([{ mode: DIRECTORY, children: { ['n'.repeat(256)]: 1 } }, { mode: TYPE.file | 0o644 }]),
      'ENAMETOOLONG',
    ],
    ['an unknown attribute', oneFile({ xattrs: [['system.other', Buffer.alloc(1)]] }), 'EINVAL'],
    [
      'too many attributes',
      oneFile({ xattrs: Array.from({ length: 5 }, (_, index) => [`user.${index}`, Buffer.alloc(0xffff)] as const) }),
      'E2BIG',
    ],
    ['an empty link', oneFile({ mode: TYPE.symlink | 0o777, symlink: '' }), 'EINVAL'],
    ['a device number that Linux cannot hold', oneFile({ mode: TYPE.char | 0o600, major: 4096 }), 'EINVAL'],
  ])('refuses %s', (_what, source, code) => {
    expect(() => writeErofs(source, () => undefined)).toThrow(
      expect.objectContaining({ name: 'ErofsError', code }) as ErofsError,
    )
  })

  it('writes a million inodes in chunks of a bounded size, with few bytes of memory for each', () => {
    const before = process.memoryUsage().arrayBuffers
    let most = 0
    let largest = 0
    const { bytes } = writeErofs(new WideTree(1000), (chunk) => {
      largest = Math.max(largest, chunk.length)
      most = Math.max(most, process.memoryUsage().arrayBuffers - before)
    })
    expect(bytes).toBeGreaterThan(80_000_000)
    expect(largest).toBeLessThanOrEqual(256 * 1024)
    expect(most).toBeLessThan(32 * 1024 * 1024)
  })
})

/**
 * `width` directories of `width` empty files, computed and not kept: inode and dirent numbers
 * follow each other.
 */
class WideTree implements ErofsSource {
  readonly uuid = Buffer.alloc(16)
  readonly devices = []
  readonly #none: [] = []

  constructor(readonly width: number) {}

  get inodeCount(): number {
    return 1 + this.width + this.width * this.width
  }

  mode = (inode: number): number => (inode <= this.width ? DIRECTORY : TYPE.file | 0o644)
  parent = (): number => 0
  firstDirent = (inode: number): number => inode * this.width
  direntCount = (): number => this.width
  direntInode = (dirent: number): number => dirent + 1
  nameLength = (): number => 8
  copyName = (dirent: number, target: Uint8Array, at: number): void => {
    for (let digit = 7, rest = dirent; digit >= 0; digit--, rest = Math.floor(rest / 10))
      target[at + digit] = 0x30 + (rest % 10)
  }
  xattrs = (): [] => this.#none
  xattr = (): [Buffer, Buffer] => [Buffer.alloc(0), Buffer.alloc(0)]
  symlink = (): Buffer => Buffer.alloc(0)
  links = (): number => 1
  uid = (): number => 0
  gid = (): number => 0
  mtime = (): number => 0
  mtimeNanos = (): number => 0
  size = (): number => 0
  device = (): number => 0
  offset = (): number => 0
  major = (): number => 0
  minor = (): number => 0
}
