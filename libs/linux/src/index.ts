/**
 * System calls that Node lacks, as synchronous functions; only `reap` and `umountApart` wait
 * without keeping the thread. What fails throws a SystemError whose `code` is the errno's name.
 * `own-files` is no call but how the files are read that a service keeps for itself. Paths are text
 * or bytes; no function follows a symbolic link at the end of a path unless it says so.
 */
export { SystemError } from './libc.js'
export * from './boot-id.js'
export * from './copy.js'
export * from './inflater.js'
export * from './lock.js'
export * from './loop.js'
export * from './mount.js'
export * from './mount-fs.js'
export * from './mount-table.js'
export * from './net.js'
export * from './own-files.js'
export * from './paths.js'
export * from './peer.js'
export * from './process-info.js'
export * from './reap.js'
export * from './socket.js'
export * from './spawn.js'
export * from './umount-apart.js'
export * from './xattrs.js'
export * from './zstd-decoder.js'
