import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { run, say } from './steps.mjs'

/** `npm ci`, unless node_modules already is what the lock says. */
export function installNpmPackages(root) {
  if (isInstalled(root)) return
  say('installing npm packages into node_modules')
  run('npm ci', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root })
}

/** npm writes what it installed to node_modules/.package-lock.json, in the lock's own form. */
function isInstalled(root) {
  const hidden = join(root, 'node_modules/.package-lock.json')
  // The Node that everything runs on is put there by its package's install script, which may have
  // been denied.
  if (!existsSync(hidden) || !existsSync(join(root, 'node_modules/.bin/node'))) return false
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  const installed = JSON.parse(readFileSync(hidden, 'utf8')).packages
  return Object.entries(wanted).every(([path, { version, link, optional, devOptional }]) => {
    if (!path.includes('node_modules/')) return true
    const found = installed[path]
    return found ? Boolean(link) || found.version === version : Boolean(optional || devOptional)
  })
}
