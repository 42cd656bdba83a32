import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../compose-file.js'
import { run } from './programs.js'

/** A repository with two releases, and a clone of it that has the first one checked out. */
export interface Releases {
  /** The tag of the checkout that this program belongs to, with all that is not committed yet. */
  readonly current: string
  /** The tag of a release which differs from that one in nothing but its version. */
  readonly next: string
  /** Where the clone is: the operator's checkout. */
  readonly checkout: string
}

export function makeReleases(folder: string): Releases {
  const origin = join(folder, 'origin')
  const checkout = join(folder, 'strata')
  for (const old of [origin, checkout]) rmSync(old, { recursive: true, force: true })
  mkdirSync(origin)
  const git = (...args: string[]): string => run('git', ['-C', origin, ...args])
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  const next = version.replace(/\d+/, (major) => String(Number(major) + 1))

  git('init', '--quiet', '--initial-branch=main')
  git('config', 'user.name', 'operator')
  git('config', 'user.email', 'operator@example.com')
  const listed = run('git', ['-C', ROOT, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'])
  for (const file of new Set(listed.split('\0').filter((name) => name && existsSync(join(ROOT, name)))))
    cpSync(join(ROOT, file), join(origin, file), { recursive: true, verbatimSymlinks: true })
  for (const release of [version, next]) {
    if (release !== version) renumber(origin, version, release)
    git('add', '--all')
    git('commit', '--quiet', '--message', release)
    git('tag', `v${release}`)
  }
  run('git', ['clone', '--quiet', '--branch', `v${version}`, origin, checkout])
  return { current: `v${version}`, next: `v${next}`, checkout }
}

/** The version of Strata wherever a release has to change it; those of others are left alone. */
function renumber(checkout: string, from: string, to: string): void {
  const edit = (file: string, change: (text: string) => string): void => {
    writeFileSync(join(checkout, file), change(readFileSync(join(checkout, file), 'utf8')))
  }
  const own = (text: string): string => text.replaceAll(new RegExp(`("@strata/[\\w-]+": )"${from}"`, 'g'), `$1"${to}"`)
  for (const file of globSync(['package.json', '{apps,libs,tools}/*/package.json'], { cwd: checkout }))
    edit(file, (text) => own(text).replace(`"version": "${from}"`, `"version": "${to}"`))
  edit('package-lock.json', (text) => {
    const lock = JSON.parse(own(text)) as { version: string; packages: Record<string, { version?: string }> }
    lock.version = to
    for (const [path, entry] of Object.entries(lock.packages))
      if (!path.includes('node_modules/') && entry.version === from) entry.version = to
    return JSON.stringify(lock, undefined, 2)
  })
  edit('docker-compose.yml', (text) => text.replaceAll(`:${from}`, `:${to}`))
}
