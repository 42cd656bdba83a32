import { execFileSync } from 'node:child_process'
import { readFileSync, realpathSync } from 'node:fs'
import type { TreeEntry } from './make-image.js'

/**
 * A root file system of this machine's busybox: `bin/busybox`, its programs as symbolic links, root
 * in `etc/passwd`, the usual empty folders.
 */
export function busyboxTree(): Map<string, TreeEntry> {
  const busybox = commandPath('busybox')
  const tree = new Map<string, TreeEntry>()
  for (const folder of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp', 'usr', 'usr/bin', 'var'])
    tree.set(folder, { folder: true, mode: folder === 'tmp' ? 0o1777 : 0o755 })
  tree.set('bin/busybox', { content: readFileSync(busybox), mode: 0o755 })
  const programs = execFileSync(busybox, ['--list'], { encoding: 'utf8' })
    .split('\n')
    .filter((name) => name !== '' && name !== 'busybox')
  for (const program of programs) tree.set(`bin/${program}`, { symlink: 'busybox' })
  tree.set('usr/bin/env', { symlink: '../../bin/busybox' })
  tree.set('etc/passwd', { content: 'root:x:0:0:root:/root:/bin/sh\n' })
  tree.set('etc/group', { content: 'root:x:0:\n' })
  addLibraries(busybox, tree)
  return tree
}

/**
 * The package `busybox` links to the C library, `busybox-static` to none; the two cannot be
 * installed side by side.
 */
function addLibraries(program: string, tree: Map<string, TreeEntry>): void {
  let listed = ''
  try {
    listed = execFileSync('ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    // "not a dynamic executable"
  }
  for (const [, path] of listed.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)) {
    const parts = path!.slice(1).split('/')
    for (let depth = 1; depth < parts.length; depth++) tree.set(parts.slice(0, depth).join('/'), { folder: true })
    tree.set(parts.join('/'), { content: readFileSync(realpathSync(path!)), mode: 0o755 })
  }
}

function commandPath(name: string): string {
  return execFileSync('/bin/sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim()
}
