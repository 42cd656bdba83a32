import { spawn, spawnSync, type SpawnSyncReturns } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { ROOT } from '../compose-file.js'
import { composePlugin } from './programs.js'

/**
 * A host in namespaces of its own (`host.sh` says which), with Docker's engine and compose v2 on
 * it. All that it keeps lies in `folder`; who stops it and starts it again finds the images as they
 * were. One process at a time may use a folder.
 */
export class TestHost {
  private constructor(readonly folder: string) {}

  /** Starts the host, or finds the one that already runs in the folder. */
  static async start(folder: string): Promise<TestHost> {
    const host = new TestHost(folder)
    if (host.isRunning()) return host
    mkdirSync(join(folder, 'config/cli-plugins'), { recursive: true })
    rmSync(join(folder, 'config/cli-plugins/docker-compose'), { force: true })
    symlinkSync(composePlugin(), join(folder, 'config/cli-plugins/docker-compose'))
    const log = openSync(join(folder, 'log'), 'a')
    const child = spawn(join(ROOT, 'tools/deploy/host.sh'), [folder], {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    child.unref()
    writeFileSync(join(folder, 'pid'), String(child.pid))
    for (let tries = 0; tries < 300; tries += 1) {
      if (host.isRunning() && host.docker('version').status === 0) return host
      if (child.exitCode !== null) break
      await wait(200)
    }
    await host.stop()
    throw new Error(
      `the engine of ${folder} does not answer: ${readFileSync(join(folder, 'log'), 'utf8').slice(-2000)}`,
    )
  }

  static at(folder: string): TestHost {
    return new TestHost(folder)
  }

  isRunning(): boolean {
    return this.#init() !== undefined
  }

  /** `docker ARGS` in the checkout. */
  docker(...args: string[]): SpawnSyncReturns<string> {
    return this.exec(['docker', ...args])
  }

  /** A command as a shell on that host runs it. */
  exec(
    command: readonly string[],
    { input, folder = ROOT }: { input?: Buffer | string; folder?: string } = {},
  ): SpawnSyncReturns<string> {
    const { program, args, env } = this.command(command, folder)
    return spawnSync(program, args, {
      env,
      encoding: 'utf8',
      maxBuffer: 64 << 20,
      ...(input !== undefined && { input }),
    })
  }

  /** What runs that command from outside of the host. */
  command(
    command: readonly string[],
    folder: string,
  ): { readonly program: string; readonly args: readonly string[]; readonly env: NodeJS.ProcessEnv } {
    const init = this.#init()
    if (init === undefined) throw new Error(`no host runs in ${this.folder}`)
    const namespaces = ['--mount', '--uts', '--ipc', '--cgroup', '--net', '--pid']
    return {
      program: 'nsenter',
      // A working folder is left behind with the mount namespace that it was in.
      args: ['--target', String(init), ...namespaces, '--', 'env', `--chdir=${folder}`, ...command],
      env: {
        ...process.env,
        // Debian's docker: a newer client may come first in the path, and asks for more plugins.
        PATH: `/usr/sbin:/usr/bin:${process.env['PATH'] ?? ''}`,
        DOCKER_CONFIG: join(this.folder, 'config'),
        DOCKER_BUILDKIT: '1',
      },
    }
  }

  /** Ends the engine, then every process of the host; the images stay. */
  async stop(): Promise<void> {
    const init = this.#init()
    if (init !== undefined) {
      process.kill(init, 'SIGTERM')
      for (let tries = 0; tries < 150 && existsSync(`/proc/${String(init)}`); tries += 1) await wait(200)
      if (existsSync(`/proc/${String(init)}`)) process.kill(init, 'SIGKILL')
      while (existsSync(`/proc/${String(init)}`)) await wait(50)
    }
    await this.#removeCgroups()
  }

  /** Ends it, and keeps nothing. */
  async remove(): Promise<void> {
    await this.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** The process id, here, of the host's PID 1. */
  #init(): number | undefined {
    try {
      const unshare = readFileSync(join(this.folder, 'pid'), 'utf8')
      if (!readFileSync(`/proc/${unshare}/cmdline`, 'utf8').includes(this.folder)) return undefined
      const [child] = readFileSync(`/proc/${unshare}/task/${unshare}/children`, 'utf8').split(' ')
      return child ? Number(child) : undefined
    } catch {
      return undefined
    }
  }

  async #removeCgroups(): Promise<void> {
    const list = join(this.folder, 'cgroups')
    if (!existsSync(list)) return
    for (const path of new Set(readFileSync(list, 'utf8').split('\n').filter(Boolean)))
      for (let tries = 0; existsSync(path); tries += 1)
        try {
          removeCgroup(path)
        } catch (error) {
          // Processes that were killed leave their cgroup a moment later.
          if (tries === 50) throw error
          await wait(100)
        }
    rmSync(list)
  }
}

function removeCgroup(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeCgroup(join(path, entry.name))
  rmdirSync(path)
}
