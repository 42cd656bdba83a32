import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { end, run, start } from './processes.mjs'

const CLIENT = process.env.DOCKER ?? '/usr/bin/docker'

/** A dockerd of our own, beside whatever else runs, with all it keeps in one folder. */
export class Docker {
  static async start(folder) {
    mkdirSync(folder, { recursive: true })
    const docker = new Docker()
    docker.data = mkdtempSync(join(folder, 'docker-'))
    docker.environment = { DOCKER_HOST: `unix://${docker.data}/docker.sock` }
    const options = { 'data-root': join(docker.data, 'root'), 'exec-root': join(docker.data, 'exec'), pidfile: join(docker.data, 'pid'), host: docker.environment.DOCKER_HOST, bridge: 'none', iptables: false, ip6tables: false }
    docker.process = await start('dockerd', Object.entries(options).map(([name, value]) => `--${name}=${value}`), {
      log: join(folder, 'docker.log'),
      isReady: () => spawnSync(CLIENT, ['version'], { env: { ...process.env, ...docker.environment }, stdio: 'ignore' }).status === 0,
    })
    return docker
  }

  version() {
    return run(CLIENT, ['version', '--format', '{{.Server.Version}}'], this.environment).trim()
  }

  driver() {
    return run(CLIENT, ['info', '--format', '{{.Driver}}'], this.environment).trim()
  }

  load(file) {
    run(CLIENT, ['load', '-q', '-i', file], this.environment)
  }

  /** docker mounts a root only for a container, so this is the mount it would make: overlay2's folders, read-only. */
  mount(image) {
    const { LowerDir, UpperDir } = JSON.parse(run(CLIENT, ['image', 'inspect', '--format', '{{json .GraphDriver.Data}}', image], this.environment))
    const target = mkdtempSync(join(this.data, 'mount-'))
    run('mount', ['-t', 'overlay', 'overlay', '-o', `ro,lowerdir=${[UpperDir, ...(LowerDir ? [LowerDir] : [])].join(':')}`, target])
    this.mounted = target
    return target
  }

  unmount() {
    run('umount', [this.mounted])
    rmSync(this.mounted, { recursive: true })
  }

  remove(image) {
    run(CLIENT, ['rmi', '-f', image], this.environment)
  }

  runCommand(image, command) {
    return [CLIENT, ['run', '--rm', '--network', 'none', image, ...command], this.environment]
  }

  async stop() {
    await end(this.process)
    spawnSync('sh', ['-c', 'grep -F " $1/" /proc/self/mountinfo | cut -d" " -f5 | sort -r | xargs -r umount -l', 'sh', this.data])
    rmSync(this.data, { recursive: true, force: true })
  }
}
