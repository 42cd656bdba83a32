/**
 * System calls that Node lacks, as synchronous functions; only `reap`, `umountApart` and `sendFile`
 * wait without keeping the thread. What fails throws a SystemError whose `code` is the errno's
 * name. `own-files` is no call but how the files are read that a service keeps for itself. Paths
 * are text or bytes; no function follows a symbolic link at the end of a path unless it says so.
 */
export { SystemError } from './libc.js'
export * from './processes/boot-id.js'
export * from './files/copy.js'
export * from './codecs/continued-hash.js'
export * from './codecs/inflater.js'
export * from './files/folder-version.js'
export * from './files/folder-watch.js'
export * from './files/lock.js'
export * from './files/writeback.js'
export * from './mounts/loop.js'
export * from './mounts/mount.js'
export * from './mounts/mount-fs.js'
export * from './mounts/mount-table.js'
export * from './sockets/net.js'
export * from './files/own-files.js'
export * from './files/paths.js'
export * from './sockets/peer.js'
export * from './processes/process-info.js'
export * from './processes/reap.js'
export * from './sockets/send-file.js'
export * from './sockets/socket.js'
export * from './processes/spawn.js'
export * from './mounts/umount-apart.js'
export * from './files/xattrs.js'
export * from './codecs/zstd-decoder.js'
