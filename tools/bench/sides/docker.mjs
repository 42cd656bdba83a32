import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ask, end, run, start } from '../processes.mjs'

// Debian's own client, where there is one, fits Debian's dockerd; another may lie before it in
// PATH.
const CLIENT = process.env.DOCKER ?? (existsSync('/usr/bin/docker') ? '/usr/bin/docker' : 'docker')

/** A dockerd of our own, beside whatever else runs. */
export class Docker {
  name = 'docker'
  isPeer = true

  static absent() {
    return ask('dockerd', ['--version']) === undefined
      ? 'dockerd is not installed'
      : ask(CLIENT, ['--version']) === undefined
        ? 'the docker command is not installed'
        : undefined
  }

  static async start(workspace) {
    const docker = new Docker()
    docker.data = workspace.part('docker')
    docker.options = { env: { DOCKER_HOST: `unix://${docker.data}/docker.sock` } }
    const options = {
      'data-root': join(docker.data, 'root'),
      'exec-root': join(docker.data, 'exec'),
      pidfile: join(docker.data, 'pid'),
      host: docker.options.env.DOCKER_HOST,
      bridge: 'none',
      iptables: false,
      ip6tables: false,
    }
    docker.process = await start(
      'dockerd',
      Object.entries(options).map(([name, value]) => `--${name}=${value}`),
      {
        log: join(docker.data, 'log'),
        isReady: () => ask(CLIENT, ['version'], docker.options.env) !== undefined,
      },
    )
    const [version, driver] = (
      await run(CLIENT, ['info', '--format', '{{.ServerVersion}} {{.Driver}}'], docker.options)
    )
      .trim()
      .split(' ')
    docker.version = `docker ${version} with ${driver}`
    return docker
  }

  watch(peaks) {
    peaks.watch(this.process.pid, 'dockerd')
  }

  async load(file, peaks) {
    await run(CLIENT, ['load', '-q', '-i', file], { ...this.options, peaks })
  }

  /**
   * docker mounts a root only for a container, so this is the mount it would make: overlay2's
   * folders, read-only.
   */
  async mount(image) {
    const { LowerDir, UpperDir } = JSON.parse(
      await run(CLIENT, ['image', 'inspect', '--format', '{{json .GraphDriver.Data}}', image], this.options),
    )
    this.mounted = mkdtempSync(join(this.data, 'mount-'))
    await run('mount', [
      '-t',
      'overlay',
      'overlay',
      '-o',
      `ro,lowerdir=${[UpperDir, ...(LowerDir ? [LowerDir] : [])].join(':')}`,
      this.mounted,
    ])
    return this.mounted
  }

  async clear(image) {
    await run('umount', [this.mounted])
    rmSync(this.mounted, { recursive: true })
    await run(CLIENT, ['rmi', '-f', image], this.options)
  }

  saveCommand(file, image) {
    return [CLIENT, ['save', '-o', file, image], this.options]
  }

  runCommand(image, command) {
    return [CLIENT, ['run', '--rm', '--network', 'none', image, ...command], this.options]
  }

  async stop() {
    await end(this.process)
  }
}
