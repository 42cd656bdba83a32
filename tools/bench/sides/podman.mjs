import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ask, run } from '../processes.mjs'

/** podman has no daemon: its storage alone is our own. */
export class Podman {
  name = 'podman'
  isPeer = true

  static absent() {
    return ask('podman', ['--version']) === undefined ? 'podman is not installed' : undefined
  }

  static async start(workspace) {
    const podman = new Podman()
    podman.data = workspace.part('podman')
    const temporary = join(podman.data, 'tmp')
    mkdirSync(temporary)
    podman.options = { env: { TMPDIR: temporary } }
    podman.global = [
      '--root',
      join(podman.data, 'root'),
      '--runroot',
      join(workspace.run, 'podman'),
      '--storage-driver',
      'overlay',
      '--cgroup-manager',
      'cgroupfs',
      '--events-backend',
      'none',
    ]
    const { version, store } = JSON.parse(
      await run('podman', [...podman.global, 'info', '--format', 'json'], podman.options),
    )
    podman.version = `podman ${version.Version} with ${store.graphDriverName}`
    return podman
  }

  watch() {}

  async load(file, peaks) {
    await run('podman', [...this.global, 'load', '-q', '-i', file], { ...this.options, peaks })
  }

  async mount(image) {
    return (await run('podman', [...this.global, 'image', 'mount', image], this.options)).trim()
  }

  async clear(image) {
    await run('podman', [...this.global, 'image', 'umount', image], this.options)
    await run('podman', [...this.global, 'rmi', '-f', image], this.options)
    const left = readdirSync(join(this.data, 'root/overlay')).filter((name) => /^[0-9a-f]{64}$/.test(name))
    if (left.length > 0) throw new Error(`podman kept ${left.length} layers`)
  }

  saveCommand(file, image) {
    return ['podman', [...this.global, 'save', '-q', '-o', file, image], this.options]
  }

  runCommand(image, command) {
    return ['podman', [...this.global, 'run', '--rm', '--network', 'none', image, ...command], this.options]
  }

  async stop() {}
}
