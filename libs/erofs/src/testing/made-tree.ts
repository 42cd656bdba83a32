import { S_IFMT, TYPE } from '../format.js'
import type { ErofsDevice, ErofsSource } from '../source.js'

/**
 * An inode of a made-up tree. `children` names others by their place in the list; files say where
 * their data are.
 */
export interface MadeInode {
  readonly mode: number
  readonly children?: Readonly<Record<string, number>> | ReadonlyMap<Buffer, number>
  readonly size?: number
  readonly device?: number
  readonly offset?: number
  readonly symlink?: string
  readonly major?: number
  readonly minor?: number
  readonly uid?: number
  readonly gid?: number
  readonly mtime?: number
  readonly nanos?: number
  readonly xattrs?: readonly (readonly [string, Buffer])[]
}

/** A tree given as a list of inodes, the root first. */
export class MadeTree implements ErofsSource {
  readonly uuid = Buffer.alloc(16, 7)
  readonly #parent: number[] = [0]
  readonly #links: number[]
  readonly #first: number[] = []
  readonly #dirents: { name: Buffer; inode: number }[] = []
  readonly #xattrs: { name: string; value: Buffer }[] = []
  readonly #xattrNumber = new Map<string, number>()

  constructor(
    readonly inodes: readonly MadeInode[],
    readonly devices: readonly ErofsDevice[] = [],
  ) {
    this.#links = inodes.map(() => 0)
    inodes.forEach((inode, number) => {
      this.#first.push(this.#dirents.length)
      const children =
        inode.children instanceof Map
          ? [...inode.children]
          : Object.entries(inode.children ?? {}).map(([name, child]) => [Buffer.from(name), child] as const)
      const named = children
        .map(([name, child]) => ({ name: name as Buffer, inode: child as number }))
        .sort((a, b) => Buffer.compare(a.name, b.name))
      for (const dirent of named) {
        this.#dirents.push(dirent)
        this.#parent[dirent.inode] = number
        this.#links[dirent.inode]!++
      }
    })
    this.#first.push(this.#dirents.length)
  }

  get inodeCount(): number {
    return this.inodes.length
  }

  at(inode: number): MadeInode {
    return this.inodes[inode]!
  }

  mode = (inode: number): number => this.at(inode).mode
  uid = (inode: number): number => this.at(inode).uid ?? 0
  gid = (inode: number): number => this.at(inode).gid ?? 0
  mtime = (inode: number): number => this.at(inode).mtime ?? 0
  mtimeNanos = (inode: number): number => this.at(inode).nanos ?? 0
  links = (inode: number): number => this.#links[inode]!
  xattrs = (inode: number): number[] =>
    (this.at(inode).xattrs ?? []).map(([name, value]) => this.#numberOf(name, value))
  xattr = (number: number): readonly [Buffer, Buffer] => [
    Buffer.from(this.#xattrs[number]!.name),
    this.#xattrs[number]!.value,
  ]
  size = (inode: number): number => this.at(inode).size ?? 0
  device = (inode: number): number => this.at(inode).device ?? 0
  offset = (inode: number): number => this.at(inode).offset ?? 0
  symlink = (inode: number): Buffer => Buffer.from(this.at(inode).symlink ?? '')
  major = (inode: number): number => this.at(inode).major ?? 0
  minor = (inode: number): number => this.at(inode).minor ?? 0
  parent = (inode: number): number => this.#parent[inode]!
  firstDirent = (inode: number): number => this.#first[inode]!
  direntCount = (inode: number): number => this.#first[inode + 1]! - this.#first[inode]!
  direntInode = (dirent: number): number => this.#dirents[dirent]!.inode
  nameLength = (dirent: number): number => this.#dirents[dirent]!.name.length
  copyName = (dirent: number, target: Uint8Array, at: number): void => target.set(this.#dirents[dirent]!.name, at)

  #numberOf(name: string, value: Buffer): number {
    const key = `${name}=${value.toString('hex')}`
    const number = this.#xattrNumber.get(key) ?? this.#xattrs.push({ name, value }) - 1
    this.#xattrNumber.set(key, number)
    return number
  }

  /** What a walk should find, by path as latin1. */
  expected(): Map<string, Record<string, unknown>> {
    const found = new Map<string, Record<string, unknown>>()
    const visit = (inode: number, path: string): void => {
      const {
        mode,
        size,
        symlink,
        major = 0,
        minor = 0,
        uid = 0,
        gid = 0,
        mtime = 0,
        nanos = 0,
        xattrs = [],
      } = this.at(inode)
      const type = mode & S_IFMT
      let subdirectories = 0
      for (let dirent = this.firstDirent(inode); dirent < this.firstDirent(inode + 1); dirent++) {
        const child = this.direntInode(dirent)
        if ((this.mode(child) & S_IFMT) === TYPE.directory) subdirectories++
        visit(child, `${path}/${this.#dirents[dirent]!.name.toString('latin1')}`)
      }
      found.set(path, {
        mode,
        uid,
        gid,
        mtime,
        nanos,
        links: type === TYPE.directory ? 2 + subdirectories : this.links(inode),
        ...(type === TYPE.file ? { size: size ?? 0 } : {}),
        ...(type === TYPE.symlink ? { symlink } : {}),
        ...(type === TYPE.char || type === TYPE.block ? { rdev: `${major}:${minor}` } : {}),
        xattrs: xattrs.map(([name, value]) => `${name}=${value.toString('hex')}`).sort(),
      })
    }
    visit(0, '')
    return found
  }
}

/**
 * One of everything, with the shapes that are hard: every kind of name order, directories of many
 * blocks, links of every length, big numbers.
 */
export function oddTree(devices: readonly ErofsDevice[]): MadeTree {
  const inodes: MadeInode[] = []
  const add = (inode: MadeInode): number => inodes.push(inode) - 1
  const root: Record<string, number> = {}
  add({ mode: TYPE.directory | 0o755, children: root, mtime: 1_700_000_000 })
  const acl = Buffer.from('0200000001000600ffffffff04000400ffffffff20000000ffffffff', 'hex')
  root['empty'] = add({ mode: TYPE.file | 0o644 })
  root['first'] = add({
    mode: TYPE.file | 0o4755,
    size: 700,
    device: 0,
    offset: 512,
    uid: 0xfffffffe,
    gid: 654321,
    mtime: -5,
    nanos: 999_999_999,
  })
  root['second'] = add({
    mode: TYPE.file | 0o600,
    size: 1024,
    device: 1,
    offset: 0,
    mtime: 9_999_999_999,
    xattrs: [
      ['user.x', Buffer.from('y')],
      ['security.capability', Buffer.from('0100000200200000000000000000000000000000', 'hex')],
    ],
  })
  root['twice'] = root['second']
  root['acl'] = add({
    mode: TYPE.file | 0o644,
    size: 1,
    device: 0,
    offset: 1536,
    xattrs: [['system.posix_acl_access', acl]],
  })
  root['huge-xattrs'] = add({
    mode: TYPE.file | 0o644,
    size: 3,
    device: 0,
    offset: 0,
    xattrs: Array.from({ length: 20 }, (_, index) => [`user.n${index}`, Buffer.alloc(200, index)] as const),
  })
  // More than an inode can share, of all lengths, so that some cross a block and some end at one.
  const shared = Array.from(
    { length: 300 },
    (_, index) => [`user.shared${index}`, Buffer.alloc(3 * index, index)] as const,
  )
  root['shared'] = add({ mode: TYPE.file | 0o644, xattrs: shared })
  root['shared-too'] = add({ mode: TYPE.directory | 0o755, children: {}, xattrs: shared })
  root['shared-in-part'] = add({
    mode: TYPE.file | 0o644,
    xattrs: [...shared.slice(200, 210), ['user.own', Buffer.from('own')]],
  })
  root['fifo'] = add({ mode: TYPE.fifo | 0o600 })
  root['socket'] = add({ mode: TYPE.socket | 0o600 })
  root['null'] = add({ mode: TYPE.char | 0o666, major: 1, minor: 3 })
  root['far'] = add({ mode: TYPE.block | 0o660, major: 0xfff, minor: 0xfffff })
  for (const length of [1, 100, 400, 447, 448, 449, 480, 481, 511, 512, 513, 1000, 4095])
    root[`link${length}`] = add({ mode: TYPE.symlink | 0o777, symlink: 'l'.repeat(length) })
  root['dir-acl'] = add({ mode: TYPE.directory | 0o700, children: {}, xattrs: [['system.posix_acl_default', acl]] })
  for (const count of [1, 5, 18, 19, 20, 40, 500]) {
    const children = Object.fromEntries(
      Array.from({ length: count }, (_, index) => [`name-${index}`, add({ mode: TYPE.file | 0o600 })]),
    )
    root[`dir${count}`] = add({ mode: TYPE.directory | 0o755, children })
  }
  const long = new Map<Buffer, number>()
  for (let index = 0; index < 50; index++)
    long.set(Buffer.alloc(255 - (index % 3), 0x80 + index), add({ mode: TYPE.directory | 0o1777, children: {} }))
  root['long'] = add({ mode: TYPE.directory | 0o755, children: long })
  const around = new Map(
    ['\x01', '-', '-dash', '.\x01', '.-', '.a', '...', '..a', '/0'.slice(1), ' '].map((name) => [
      Buffer.from(name, 'latin1'),
      add({ mode: TYPE.file | 0o600 }),
    ]),
  )
  root['around-the-dots'] = add({ mode: TYPE.directory | 0o755, children: around })
  root['before-the-dots'] = add({ mode: TYPE.directory | 0o755, children: { '!': add({ mode: TYPE.file | 0o600 }) } })
  return new MadeTree(inodes, devices)
}
