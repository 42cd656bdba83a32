import { hexOf, type ChainId } from '@strata/oci'
import type { ErofsSource } from '@strata/erofs'
import { KIND, type MergedTree } from '@strata/layers'
import type { SidePlan } from './side.js'

/**
 * The merged tree in the form that the EROFS writer takes: a dirent is a node of the tree. The
 * devices are the tars of the layers that still hold data, then the side file.
 */
export function mergedSource(
  tree: MergedTree,
  side: SidePlan,
  chainId: ChainId,
): { source: ErofsSource; deviceLayers: number[] } {
  const used = new Set<number>()
  for (let inode = 0; inode < tree.inodeCount; inode++) {
    if (tree.kind(inode) === KIND.file && tree.size(inode) > 0 && !side.offsets.has(inode)) used.add(tree.layer(inode))
  }
  const deviceLayers = [...used].sort((a, b) => a - b)
  const deviceOf = new Map(deviceLayers.map((layer, device) => [layer, device]))
  const devices = deviceLayers.map((layer) => ({ blocks: Math.floor(tree.layers[layer]!.tarSize / 512) }))
  if (side.size > 0) devices.push({ blocks: side.size / 512 })
  const childrenOf = (inode: number): number => tree.firstChild(tree.node(inode))
  const source: ErofsSource = {
    inodeCount: tree.inodeCount,
    devices,
    uuid: Buffer.from(hexOf(chainId), 'hex').subarray(0, 16),
    mode: (inode) => tree.mode(inode),
    uid: (inode) => tree.uid(inode),
    gid: (inode) => tree.gid(inode),
    mtime: (inode) => tree.mtime(inode),
    mtimeNanos: (inode) => tree.mtimeNanos(inode),
    links: (inode) => tree.links(inode),
    xattrs: (inode) => tree.xattrNumbers(inode),
    xattr: (number) => tree.xattr(number),
    size: (inode) => tree.size(inode),
    device: (inode) => (side.offsets.has(inode) ? deviceLayers.length : deviceOf.get(tree.layer(inode))!),
    offset: (inode) => side.offsets.get(inode) ?? tree.dataOffset(inode),
    symlink: (inode) => tree.symlink(inode),
    major: (inode) => tree.major(inode),
    minor: (inode) => tree.minor(inode),
    parent: (inode) => tree.inode(tree.parent(tree.node(inode))),
    firstDirent: childrenOf,
    direntCount: (inode) => tree.firstChild(tree.node(inode) + 1) - childrenOf(inode),
    direntInode: (dirent) => tree.inode(dirent),
    nameLength: (dirent) => tree.nameLength(dirent),
    copyName: (dirent, target, at) => void tree.copyName(dirent, target, at),
  }
  return { source, deviceLayers }
}
