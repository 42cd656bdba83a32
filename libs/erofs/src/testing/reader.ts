/**
 * An EROFS reader of its own for tests: written from the format's description, sharing nothing with
 * the writer. Checks what the kernel would trip over.
 */
export interface Found {
  readonly byPath: Map<string, Record<string, unknown>>
  /** Where a file's data are: device (from 0) and byte. */
  readonly data: Map<string, { device: number; offset: number } | undefined>
}

const PREFIX: Record<number, string> = {
  1: 'user.',
  2: 'system.posix_acl_access',
  3: 'system.posix_acl_default',
  4: 'trusted.',
  6: 'security.',
}

export function readErofs(image: Buffer): Found {
  const fail = (why: string): never => {
    throw new Error(why)
  }
  if (image.readUInt32LE(1024) !== 0xe0f5e1e2) fail('magic')
  if (image.readUInt32LE(1024 + 80) !== 8 || image[1024 + 12] !== 9) fail('features')
  if (image.readUInt32LE(1024 + 36) * 512 !== image.length) fail('blocks')
  const slots = image.readUInt16LE(1024 + 88) * 128
  const devices = Array.from({ length: image.readUInt16LE(1024 + 86) }, (_, slot) => ({
    blocks: image.readUInt32LE(slots + slot * 128 + 64),
    first: image.readUInt32LE(slots + slot * 128 + 68),
  }))
  const found: Found = { byPath: new Map(), data: new Map() }

  const inodeAt = (nid: number) => {
    const at = nid * 32
    const format = image.readUInt16LE(at)
    if ((format & 1) !== 1) fail('extended')
    const count = image.readUInt16LE(at + 2)
    const xattrs = count === 0 ? 0 : 12 + 4 * (count - 1)
    return {
      layout: format >> 1,
      mode: image.readUInt16LE(at + 4),
      size: Number(image.readBigUInt64LE(at + 8)),
      u: image.readUInt32LE(at + 16),
      ino: image.readUInt32LE(at + 20),
      uid: image.readUInt32LE(at + 24),
      gid: image.readUInt32LE(at + 28),
      mtime: Number(image.readBigInt64LE(at + 32)),
      nanos: image.readUInt32LE(at + 40),
      links: image.readUInt32LE(at + 44),
      xattrStart: at + 64 + 12,
      tail: at + 64 + xattrs,
    }
  }
  type Inode = ReturnType<typeof inodeAt>
  const contents = (inode: Inode): Buffer => {
    if (inode.layout === 0) return image.subarray(inode.u * 512, inode.u * 512 + inode.size)
    if (inode.layout !== 2) fail('layout')
    const whole = Math.floor(inode.size / 512) * 512
    const rest = inode.size - whole
    if ((inode.tail % 512) + rest > 512) fail('a tail crosses a block')
    return Buffer.concat([
      image.subarray(inode.u * 512, inode.u * 512 + whole),
      image.subarray(inode.tail, inode.tail + rest),
    ])
  }
  const xattrsOf = (inode: Inode): string[] => {
    const list: string[] = []
    const entryAt = (at: number): number => {
      const length = image[at]!
      const size = image.readUInt16LE(at + 2)
      const name = PREFIX[image[at + 1]!]! + image.toString('latin1', at + 4, at + 4 + length)
      list.push(`${name}=${image.toString('hex', at + 4 + length, at + 4 + length + size)}`)
      return at + ((4 + length + size + 3) & ~3)
    }
    if (inode.xattrStart > inode.tail) return list
    const shared = image[inode.xattrStart - 8]!
    for (let number = 0; number < shared; number++)
      entryAt(image.readUInt32LE(1024 + 44) * 512 + image.readUInt32LE(inode.xattrStart + 4 * number) * 4)
    for (let at = inode.xattrStart + 4 * shared; at < inode.tail;) at = entryAt(at)
    return list.sort()
  }
  const entriesOf = (bytes: Buffer): { name: Buffer; nid: number; type: number }[] => {
    const list: { name: Buffer; nid: number; type: number }[] = []
    for (let start = 0; start < bytes.length; start += 512) {
      const block = bytes.subarray(start, start + 512)
      const count = block.readUInt16LE(8) / 12
      for (let entry = 0; entry < count; entry++) {
        const from = block.readUInt16LE(entry * 12 + 8)
        let to = entry + 1 < count ? block.readUInt16LE(entry * 12 + 20) : block.length
        if (entry + 1 === count) while (block[to - 1] === 0) to--
        list.push({
          name: block.subarray(from, to),
          nid: Number(block.readBigUInt64LE(entry * 12)),
          type: block[entry * 12 + 10]!,
        })
      }
    }
    for (let index = 1; index < list.length; index++)
      if (Buffer.compare(list[index - 1]!.name, list[index]!.name) >= 0) fail('order')
    return list
  }
  const visit = (nid: number, parent: number, path: string): void => {
    const inode = inodeAt(nid)
    const type = inode.mode & 0o170000
    const seen: Record<string, unknown> = {
      mode: inode.mode,
      uid: inode.uid,
      gid: inode.gid,
      mtime: inode.mtime,
      nanos: inode.nanos,
      links: inode.links,
      xattrs: xattrsOf(inode),
    }
    if (type === 0o100000) {
      if (inode.layout !== 0) fail('a file that is not plain')
      seen['size'] = inode.size
      const device = devices.findIndex(
        ({ first, blocks }) => inode.u >= first && inode.u + Math.ceil(inode.size / 512) <= first + blocks,
      )
      if (inode.size > 0 && device < 0) fail('data outside all devices')
      found.data.set(path, inode.size === 0 ? undefined : { device, offset: (inode.u - devices[device]!.first) * 512 })
    }
    if (type === 0o120000) seen['symlink'] = contents(inode).toString()
    if (type === 0o020000 || type === 0o060000)
      seen['rdev'] = `${(inode.u >>> 8) & 0xfff}:${(inode.u & 0xff) | ((inode.u >>> 12) & 0xfff00)}`
    found.byPath.set(path, seen)
    if (type !== 0o040000) return
    for (const { name, nid: child, type: kind } of entriesOf(contents(inode))) {
      const text = name.toString('latin1')
      if (text === '.' || text === '..') {
        if (child !== (text === '.' ? nid : parent)) fail('dots')
        continue
      }
      if (kind !== { 1: 5, 2: 3, 4: 2, 6: 4, 8: 1, 10: 7, 12: 6 }[inodeAt(child).mode >> 12]) fail('type')
      visit(child, nid, `${path}/${text}`)
    }
  }
  const root = image.readUInt16LE(1024 + 14)
  visit(root, root, '')
  return found
}
