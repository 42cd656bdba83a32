import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, rmdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { command, dim, print } from './terminal.mjs'

const CLI = join(import.meta.dirname, '../../apps/cli/bin/strata.mjs')
/** statfs(2), f_type. */
const OVERLAYFS = 0x794c7630

/**
 * A Strata that lives as long as the demo: a data folder and a socket of its own, and the command
 * `strata` pointed at them.
 */
export class Strata {
  interrupted = false
  #children = new Set()
  #runFolders = []

  static async in(folder) {
    // A container's writable layer cannot lie on overlayfs, which a checkout within a container
    // mostly does.
    for (const parent of [folder, '/var/tmp', '/tmp', '/dev/shm']) {
      const { type } = await statfs(parent).catch(() => ({ type: OVERLAYFS }))
      if (type !== OVERLAYFS) return new Strata(await mkdtemp(join(parent, 'data-')))
    }
    throw new Error(
      'every folder here lies on overlayfs, where containers cannot have a writable layer: mount a volume at /var/tmp',
    )
  }

  constructor(data) {
    this.data = data
    // A unix socket's path has 107 bytes, and a checkout may lie deep.
    const near = join(data, 'strata.sock')
    this.socket = near.length <= 100 ? near : `/tmp/strata-demo-${process.pid}.sock`
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      process.on(signal, () => {
        this.interrupted = true
        for (const child of this.#children) child.kill('SIGTERM')
      })
    }
  }

  /** All services in the background; returns when they answer. */
  async up() {
    command(['up', '-d', '--data', this.data])
    await this.quiet(['up', '-d', '--data', this.data, '--socket', this.socket])
    const info = JSON.parse(await this.quiet(['info', '--format', 'json']).catch(() => '{}'))
    this.#runFolders = (info.nodes ?? []).map(({ id }) => `/run/strata/${id}`)
    for (const { driver, driverReason, kernel } of info.nodes ?? [])
      print(`  ${dim(`Linux ${kernel}; storage driver ${driver}: ${driverReason}`)}`)
  }

  /** Its output, also shown line by line; an error if it fails. */
  async show(args) {
    command(args)
    const { code, output } = await this.#run(args, (text) => process.stdout.write(text.replaceAll(/^(?=.)/gm, '  ')))
    if (code !== 0) throw new Error(`strata ${args[0]} ended with ${code}`)
    return output
  }

  async quiet(args) {
    const { code, output, errors } = await this.#run(args, undefined, true)
    if (code !== 0) throw new Error(errors.trim().split('\n').at(-1) || `strata ${args[0]} ended with ${code}`)
    return output
  }

  /** What the container writes, set off from the demo's own lines; its exit code. */
  async container(args) {
    command(args)
    print()
    const { code } = await this.#run(args, (text) => process.stdout.write(text.replaceAll(/^(?=.)/gm, '  │ ')))
    print()
    return code
  }

  #run(args, onText, keepErrors = false) {
    if (this.interrupted && !this.cleaning) return Promise.reject(new Error('interrupted'))
    return new Promise((resolve, reject) => {
      // A group of its own: Ctrl-C reaches the demo, which ends what runs in its own order.
      const child = spawn(CLI, args, {
        detached: true,
        stdio: ['ignore', 'pipe', keepErrors ? 'pipe' : 'inherit'],
        env: { ...process.env, STRATA_HOST: `unix://${this.socket}` },
      })
      this.#children.add(child)
      let [output, errors] = ['', '']
      child.stdout.setEncoding('utf8').on('data', (text) => {
        output += text
        onText?.(text)
      })
      child.stderr?.setEncoding('utf8').on('data', (text) => (errors += text))
      child.on('error', reject)
      child.on('close', (code) => {
        this.#children.delete(child)
        if (this.interrupted && !this.cleaning) reject(new Error('interrupted'))
        else resolve({ code, output, errors })
      })
    })
  }

  /**
   * Ends containers, services and mounts, and removes the data; what could not be ended, as lines.
   */
  async clean() {
    this.cleaning = true
    const left = []
    const attempt = (args) => this.quiet(args).catch((error) => void left.push(error.message))
    const containers = await this.quiet(['ps', '-a', '-q']).catch(() => '')
    for (const id of containers.split('\n').filter(Boolean)) await attempt(['rm', '-f', id])
    await attempt(['down', '--socket', this.socket])
    // An image's root stays mounted, and the node's folders stay, for the next start; this data
    // folder will see none.
    for (const folder of [this.data, ...this.#runFolders]) {
      for (const point of (await mountsBelow(folder)).reverse())
        await unmount(point).catch((error) => void left.push(`${point}: ${error.message}`))
      if ((await mountsBelow(folder)).length === 0) await rm(folder, { recursive: true, force: true })
    }
    await rmdir('/run/strata').catch(() => undefined)
    await rm(this.socket, { force: true })
    return left
  }
}

async function mountsBelow(folder) {
  const table = await readFile('/proc/self/mountinfo', 'utf8')
  const points = table
    .split('\n')
    .map((line) =>
      line.split(' ')[4]?.replaceAll(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8))),
    )
  return points.filter((point) => point === folder || point?.startsWith(`${folder}/`))
}

function unmount(point) {
  return new Promise((resolve, reject) => {
    spawn('umount', [point], { stdio: 'ignore' })
      .on('error', reject)
      .on('close', (code) => (code === 0 ? resolve() : reject(new Error(`umount ended with ${code}`))))
  })
}
