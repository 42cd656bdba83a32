import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'

/**
 * One run's folder: all that its daemons keep lies in it, and whatever names it (processes, mounts)
 * is of this run. `remove` takes all of that away, however far the run came. A run that was killed
 * is taken away by the next `create` in the same folder.
 */
export class Workspace {
  static create(parent) {
    mkdirSync(parent, { recursive: true })
    for (const name of readdirSync(parent)) {
      const owner = /^work-(\d+)-/.exec(name)?.[1]
      if (owner !== undefined && !isBench(owner)) new Workspace(join(parent, name)).remove()
    }
    return new Workspace(mkdtempSync(join(parent, `work-${process.pid}-`)))
  }

  constructor(folder) {
    this.folder = folder
    /** For what asks for a short path. */
    this.run = join('/run', basename(folder).replace(/^work/, 'strata-bench'))
  }

  /** A new folder of its own for a side. */
  part(name) {
    return mkdtempSync(join(this.folder, `${name}-`))
  }

  remove() {
    for (const pid of this.#processes()) signal(pid, 'SIGKILL')
    this.unmount(this.folder)
    for (const name of readdirSync(this.folder))
      rmSync(join('/run/strata', nodeOf(join(this.folder, name))), { recursive: true, force: true })
    this.unmount(this.run)
    for (const folder of [this.run, this.folder]) rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }

  /** All mounts below a folder. */
  unmount(folder) {
    spawnSync('sh', [
      '-c',
      'grep -F " $1/" /proc/self/mountinfo | cut -d" " -f5 | sort -r | xargs -r umount -l',
      'sh',
      folder,
    ])
  }

  /**
   * Ours are known by the run's folder in their arguments, environment or working directory: its
   * name is like no other.
   */
  #processes() {
    return readdirSync('/proc').filter(
      (pid) =>
        /^\d+$/.test(pid) &&
        Number(pid) !== process.pid &&
        describes(pid).some((text) => text.includes(this.folder) || text.includes(this.run)),
    )
  }
}

/**
 * The node's id of a Strata with this data folder; what it keeps outside of it carries that
 * (standalone's config.ts).
 */
export function nodeOf(data) {
  return `n${createHash('sha256').update(data).digest('hex').slice(0, 8)}`
}

function describes(pid) {
  const attempt = (read) => {
    try {
      return read()
    } catch {
      return ''
    }
  }
  return [
    attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')),
    attempt(() => readFileSync(`/proc/${pid}/environ`, 'utf8')),
    attempt(() => readlinkSync(`/proc/${pid}/cwd`)),
  ]
}

function isBench(pid) {
  return describes(pid)[0].includes('bench.mjs')
}

function signal(pid, name) {
  try {
    process.kill(Number(pid), name)
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}
