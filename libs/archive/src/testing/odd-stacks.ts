import { concat, file, header, pax, paxHeader, ZEROS, type HeaderFields } from './tar-bytes.js'

/**
 * Stacks of layers with something odd in them, and the tree that docker 20.10.24 (overlay2), podman
 * 4.3.1 (overlay), containerd 1.6.20 (overlayfs) and umoci 0.4.7 make of them. All four were given
 * each stack. Where one makes another tree, a comment says so, and docs/security.md says why the
 * others are followed. Three differences are left out of the comments: docker and podman refuse a
 * layer that has a name twice; umoci makes devices 0:0 where overlayfs has whiteouts; the root is
 * 0555 with podman.
 *
 * A line is a name: its type, mode, owner and path, the target of a symbolic link, and the first
 * name of a file that has several. The root has the path `/`.
 */
export interface OddStack {
  /** Tars, lowest first. */
  readonly layers: readonly Buffer[]
  readonly tree: readonly string[]
}

const own = { uid: 0, gid: 0, mtime: 1 }
const dir = (name: string, fields: Partial<HeaderFields> = {}): Buffer =>
  header({ ...own, name: `${name}/`, type: '5', mode: 0o755, ...fields })
const plain = (name: string, fields: Partial<HeaderFields> = {}): Buffer => file(name, '', { ...own, ...fields })
const link = (name: string, target: string): Buffer => header({ ...own, name, type: '2', mode: 0o777, link: target })
const hard = (name: string, target: string): Buffer => header({ ...own, name, type: '1', link: target })
const device = (name: string, fields: Partial<HeaderFields> = {}): Buffer =>
  header({ ...own, name, type: '3', mode: 0o600, major: 0, minor: 0, ...fields })
const fifo = (name: string): Buffer => header({ ...own, name, type: '6', mode: 0o644 })
const owned = (name: string, raw: NonNullable<HeaderFields['raw']>): Buffer =>
  header({ ...own, name, mode: 0o4755, raw })
const layer = (...parts: Buffer[]): Buffer => concat(...parts, ZEROS)
const stack = (layers: Buffer[], ...tree: string[]): OddStack => ({ layers, tree: ['d755 0:0 /', ...tree] })
const one = (parts: Buffer[], ...tree: string[]): OddStack => stack([layer(...parts)], ...tree)

const USR = [dir('usr'), dir('usr/lib')]
const USR_TREE = ['d755 0:0 usr', 'd755 0:0 usr/lib']
const LIB = link('lib', 'usr/lib')
const LIB_TREE = 'l777 0:0 lib -> usr/lib'
/** `l1` leads to a folder, each further one to the one before. */
const chain = (links: number): Buffer[] => [
  dir('end'),
  link('l1', 'end'),
  ...Array.from({ length: links - 1 }, (_, n) => link(`l${n + 2}`, `l${n + 1}`)),
]

export const ODD_STACKS: Readonly<Record<string, OddStack>> = {
  'a file, a folder and what they imply, below a relative link': one(
    [...USR, LIB, plain('lib/f'), dir('lib/d'), plain('lib/d/f'), plain('lib/i/m/f')],
    ...USR_TREE,
    'd755 0:0 usr/lib/d',
    'd755 0:0 usr/lib/i',
    'd755 0:0 usr/lib/i/m',
    'f644 0:0 usr/lib/d/f',
    'f644 0:0 usr/lib/f',
    'f644 0:0 usr/lib/i/m/f',
    LIB_TREE,
  ),
  'an absolute link begins at the root': one(
    [...USR, link('lib', '/usr/lib'), plain('lib/f')],
    ...USR_TREE,
    'f644 0:0 usr/lib/f',
    'l777 0:0 lib -> /usr/lib',
  ),
  '.. of a link ends at the root': one(
    [...USR, dir('a'), link('a/l', '../../../../usr/lib'), plain('a/l/f')],
    'd755 0:0 a',
    ...USR_TREE,
    'f644 0:0 usr/lib/f',
    'l777 0:0 a/l -> ../../../../usr/lib',
  ),
  'a link to the root': one([link('l', '/'), plain('l/f')], 'f644 0:0 f', 'l777 0:0 l -> /'),
  'a link to a link, with dots and slashes': one(
    [...USR, link('b', '/lib/.'), link('lib', 'usr/.//lib/'), plain('b/f')],
    ...USR_TREE,
    'f644 0:0 usr/lib/f',
    'l777 0:0 b -> /lib/.',
    'l777 0:0 lib -> usr/.//lib/',
  ),
  '.. behind a link is the folder above the one that it leads to': one(
    [dir('real'), dir('real/deep'), dir('real/t'), link('s', 'real/deep'), link('k', 's/../t'), plain('k/f')],
    'd755 0:0 real',
    'd755 0:0 real/deep',
    'd755 0:0 real/t',
    'f644 0:0 real/t/f',
    'l777 0:0 k -> s/../t',
    'l777 0:0 s -> real/deep',
  ),
  '40 links, one behind the other': one(
    [...chain(40), plain('l40/f')],
    'd755 0:0 end',
    'f644 0:0 end/f',
    'l777 0:0 l1 -> end',
    ...Array.from({ length: 39 }, (_, n) => `l777 0:0 l${n + 2} -> l${n + 1}`),
  ),
  'a link to a folder that is only implied': one(
    [plain('usr/lib/f'), LIB, plain('lib/g')],
    ...USR_TREE,
    'f644 0:0 usr/lib/f',
    'f644 0:0 usr/lib/g',
    LIB_TREE,
  ),
  'every kind of thing below a link': one(
    [...USR, LIB, fifo('lib/p'), link('lib/l', '../z'), device('lib/n', { major: 1, minor: 3 })],
    'c600 0:0 usr/lib/n',
    ...USR_TREE,
    LIB_TREE,
    'l777 0:0 usr/lib/l -> ../z',
    'p644 0:0 usr/lib/p',
  ),
  'a link that is replaced: each entry goes where it led then': one(
    [...USR, dir('other'), LIB, plain('lib/f'), link('lib', '/other'), plain('lib/g')],
    'd755 0:0 other',
    ...USR_TREE,
    'f644 0:0 other/g',
    'f644 0:0 usr/lib/f',
    'l777 0:0 lib -> /other',
  ),
  'a folder over a link replaces it': one(
    [...USR, LIB, dir('lib'), plain('lib/f')],
    'd755 0:0 lib',
    ...USR_TREE,
    'f644 0:0 lib/f',
  ),
  'a link over a folder takes it away': one(
    [...USR, dir('d'), plain('d/f'), link('d', 'usr/lib'), plain('d/g')],
    ...USR_TREE,
    'f644 0:0 usr/lib/g',
    'l777 0:0 d -> usr/lib',
  ),
  // umoci alone: the others fail at the time of the folder that went
  'what a link led to goes away': one([...USR, LIB, plain('lib/f'), plain('usr')], 'f644 0:0 usr', LIB_TREE),
  'a link of a layer below is hidden by a folder': stack(
    [layer(...USR, LIB), layer(dir('lib'), plain('lib/f'))],
    'd755 0:0 lib',
    ...USR_TREE,
    'f644 0:0 lib/f',
  ),
  // umoci follows the link of the layer below
  'a link of a layer below is hidden by a folder that is only implied': stack(
    [layer(...USR, LIB), layer(plain('lib/f'))],
    'd755 0:0 lib',
    ...USR_TREE,
    'f644 0:0 lib/f',
  ),
  // umoci follows it, within the root
  'a link of a layer below that leads out of the root is hidden too': stack(
    [layer(link('out', '/nothing-that-is-there')), layer(plain('out/f'))],
    'd755 0:0 out',
    'f644 0:0 out/f',
  ),
  'a whiteout through a link': stack(
    [layer(...USR, plain('usr/lib/f'), plain('usr/lib/g')), layer(...USR, LIB, plain('lib/.wh.f'))],
    ...USR_TREE,
    'f644 0:0 usr/lib/g',
    LIB_TREE,
  ),
  'an opaque folder through a link': stack(
    [layer(...USR, plain('usr/lib/f')), layer(...USR, LIB, plain('lib/.wh..wh..opq'), plain('lib/g'))],
    ...USR_TREE,
    'f644 0:0 usr/lib/g',
    LIB_TREE,
  ),
  'a hard link whose target lies behind a link': one(
    [...USR, plain('usr/lib/f'), link('lib', '/usr/lib'), hard('h', '/lib/f')],
    ...USR_TREE,
    'f644 0:0 h',
    'f644 0:0 usr/lib/f = h',
    'l777 0:0 lib -> /usr/lib',
  ),
  'a hard link to a link is one more name of the link': one(
    [plain('f'), link('l', 'f'), hard('h', 'l')],
    'f644 0:0 f',
    'l777 0:0 h -> f',
    'l777 0:0 l -> f = h',
  ),
  'a hard link below a link': one(
    [...USR, plain('f'), LIB, hard('lib/h', 'f')],
    ...USR_TREE,
    'f644 0:0 f',
    'f644 0:0 usr/lib/h = f',
    LIB_TREE,
  ),
  '.. in a name': one([plain('i/x/a/../b')], 'd755 0:0 i', 'd755 0:0 i/x', 'f644 0:0 i/x/b'),
  '.. behind a link in a name takes the link away, not what it leads to': one(
    [...USR, LIB, plain('lib/../f')],
    ...USR_TREE,
    'f644 0:0 f',
    LIB_TREE,
  ),
  'a folder that .. makes the root': one([dir('a'), dir('a/..'), plain('f')], 'd755 0:0 a', 'f644 0:0 f'),
  '.. in the target of a hard link': one([plain('f'), hard('h', 'missing/../f')], 'f644 0:0 f', 'f644 0:0 h = f'),
  '.. before a whiteout': stack([layer(dir('a'), plain('f')), layer(plain('a/../.wh.f'))], 'd755 0:0 a'),
  // umoci takes the attributes of the root
  'attributes of the root': stack([
    layer(paxHeader(pax('SCHILY.xattr.user.r', 'r')), dir('.', { mode: 0o700, uid: 5, gid: 6 })),
    layer(dir('.', { mode: 0o711, uid: 7, gid: 8 })),
  ]),
  'attributes in libarchive’s form, and access control lists as text': one(
    [
      paxHeader(
        pax('LIBARCHIVE.xattr.user.a', 'aGk') +
          pax('SCHILY.acl.access', 'user::rw-,user:1000:r--,group::r--,mask::r--,other::r--'),
      ),
      plain('f'),
      paxHeader(pax('SCHILY.acl.default', 'user::rwx,group::r-x,other::r-x')),
      dir('d'),
    ],
    'd755 0:0 d',
    'f644 0:0 f',
  ),
  'a device 0:0': stack(
    [layer(dir('d'), plain('d/x'), plain('f'), plain('k')), layer(device('d'), device('f'), device('new'))],
    'f644 0:0 k',
  ),
  'a device 0:0, then a file of its name': stack(
    [layer(plain('f')), layer(device('f'), plain('f', { mode: 0o600 }))],
    'f600 0:0 f',
  ),
  // umoci: the lower folder is gone
  'a device 0:0, then a folder of its name': stack(
    [layer(dir('d'), plain('d/x')), layer(device('d'), dir('d'), plain('d/y'))],
    'd755 0:0 d',
    'f644 0:0 d/x',
    'f644 0:0 d/y',
  ),
  'a device 0:0 over a folder of its layer': one([dir('d'), plain('d/x'), device('d')]),
  'a device 0:0 under two names': stack([layer(plain('h')), layer(device('g'), hard('h', 'g'))]),
  'a device 0:0 through a link': stack(
    [layer(...USR, plain('usr/lib/f')), layer(...USR, LIB, device('lib/f'))],
    ...USR_TREE,
    LIB_TREE,
  ),
  'a block device 0:0 is one': one([device('b', { type: '4' })], 'b600 0:0 b'),
  'owners beyond 32 bits': one(
    [
      owned('a', { uid: '\x80\0\0\x01\0\0\0\x05', gid: '\x80\0\x07\0\0\0\0\x09' }),
      owned('b', { uid: '\x80\0\0\x01\0\0\0\0' }),
      owned('c', { uid: '\x80\0\0\0\xff\xff\xff\xfe', gid: '\x80\0\0\0\x80\0\0\0' }),
      owned('d', { uid: '\x80\0\0\0\xff\xff\xff\xff', gid: '\x80\0\0\0\xff\xff\xff\xff' }),
      concat(paxHeader(pax('uid', '-5') + pax('gid', '4294967301')), plain('p')),
      owned('e', { uid: '\xff\xff\xff\xff\xff\xff\xff\xff', gid: '\xff\xff\xff\xff\xff\xff\xff\xfb' }),
    ],
    'f4755 5:9 a',
    'f4755 0:0 b',
    'f4755 4294967294:2147483648 c',
    'f4755 0:0 d',
    'f4755 0:4294967291 e',
    'f644 4294967291:5 p',
  ),
}

/**
 * What one of them or more fail at, and, the last two, names that all four put into the root though
 * they lead out of it. Each sentence names the entry.
 */
export const REFUSED_STACKS: Readonly<Record<string, { readonly layers: readonly Buffer[]; readonly why: RegExp }>> = {
  'below a link to nothing': { layers: [layer(link('lib', 'no'), plain('lib/f'))], why: /"lib\/f" lies below .*"lib"/ },
  'below a link to a file': { layers: [layer(plain('f'), link('l', 'f'), plain('l/x'))], why: /"l\/x" lies below/ },
  'below a link to itself': { layers: [layer(link('l', 'l'), plain('l/x'))], why: /"l\/x" .* more than 40 links/ },
  'below a ring of links': {
    layers: [layer(link('a', 'b'), link('b', '/a'), plain('a/x'))],
    why: /"a\/x" .* more than 40 links/,
  },
  'below 41 links': { layers: [layer(...chain(41), plain('l41/x'))], why: /"l41\/x" .* more than 40 links/ },
  'below a link to a folder of the layer below': {
    layers: [layer(...USR), layer(LIB, plain('lib/f'))],
    why: /"lib\/f" lies below .*"lib"/,
  },
  'below a link whose folder went': {
    layers: [layer(...USR, LIB, plain('usr/lib'), plain('lib/f'))],
    why: /"lib\/f" lies below .*"lib"/,
  },
  'below a device 0:0': { layers: [layer(device('d'), plain('d/f'))], why: /"d\/f" lies below a non-directory/ },
  'a hard link through a link to nothing': {
    layers: [layer(link('lib', 'no'), hard('h', 'lib/f'))],
    why: /"lib\/f" of the hard link "h" lies below .*"lib"/,
  },
  'a name out of the root': { layers: [layer(plain('a/../../f'))], why: /"a\/\.\.\/\.\.\/f" leads out of the root/ },
  'a hard link out of the root': {
    layers: [layer(plain('f'), hard('h', '/../f'))],
    why: /"\/\.\.\/f" leads out of the root/,
  },
}
