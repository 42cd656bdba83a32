import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MNT_DETACH, mount, mountTable, umount } from '@strata/linux'
import { digestOf, type ChainId } from '@strata/oci'
import type { ContainerClaim, ContainerRecord, ContainerRequest, ContainerRoots } from '../container.js'
import { Containers } from '../containers.js'
import type { ContainersOptions } from '../parts.js'
import { findProgram } from '../runtime/find-program.js'
import type { LogOptions } from '../log/types.js'
import { leaksOf } from './leaks.js'

export const newId = (): string => randomBytes(32).toString('hex')

/** Overlays of one busybox tree, mounted by hand: what the snapshotter does, small. */
export class OverlayRoots implements ContainerRoots {
  constructor(
    public lower: string,
    private readonly folder: string,
  ) {}

  async mount(container: ContainerRecord): Promise<string> {
    const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => join(this.folder, container.id, name)) as [
      string,
      string,
      string,
    ]
    for (const folder of [upper, work, merged]) await mkdir(folder, { recursive: true })
    if (!mountTable().some((entry) => entry.mountPoint === merged))
      mount('overlay', merged, 'overlay', 0, `lowerdir=${this.lower},upperdir=${upper},workdir=${work}`)
    return merged
  }

  unmount(container: { readonly id: string }): Promise<void> {
    const merged = join(this.folder, container.id, 'merged')
    if (mountTable().some((entry) => entry.mountPoint === merged)) umount(merged, MNT_DETACH)
    return Promise.resolve()
  }

  /** Nothing else mounts what lies in a test's folder. */
  assertUnused(): void {
    return
  }

  async remove(container: { readonly id: string }): Promise<void> {
    await this.unmount(container)
    await rm(join(this.folder, container.id), { recursive: true, force: true })
  }
}

/**
 * One node on this machine for a test: real runc and conmon, a busybox root, folders of its own.
 */
export class World {
  private constructor(
    public containers: Containers,
    readonly folder: string,
    readonly options: ContainersOptions,
    private readonly roots: OverlayRoots,
    readonly warnings: readonly string[],
  ) {}

  static async make(overrides: Partial<ContainersOptions> = {}): Promise<World> {
    const folder = await mkdtemp('/var/tmp/strata-containers-')
    const lower = join(folder, 'lower')
    await makeBusybox(lower)
    const warnings: string[] = []
    const roots = new OverlayRoots(lower, join(folder, 'roots'))
    const node = `test-${randomBytes(4).toString('hex')}`
    const options: ContainersOptions = {
      node,
      folder: join(folder, 'containers'),
      runFolder: join('/run', `strata-${node}`),
      roots,
      warn: (message) => warnings.push(message),
      ...overrides,
    }
    return new World(await Containers.open(options), folder, options, roots, warnings)
  }

  /** Containers made from here on have a root of their own making. Answers its path. */
  async useRoot(make: (root: string) => Promise<unknown>): Promise<string> {
    const root = await mkdtemp(join(this.folder, 'root-'))
    await makeBusybox(root)
    await make(root)
    this.roots.lower = root
    return root
  }

  /**
   * As after the service was killed: a new one over the same folders. What the old one holds in
   * memory is let go of, unasked.
   */
  async restart(): Promise<void> {
    await this.containers.close()
    this.containers = await Containers.open(this.options)
  }

  claimOf(request: ContainerRequest, more: Partial<ContainerClaim> = {}): ContainerClaim {
    const id = digestOf('busybox')
    return {
      image: { name: 'busybox:test', id, chainId: id as unknown as ChainId, config: undefined },
      request,
      ...more,
    }
  }

  async claim(
    command: readonly string[],
    request: ContainerRequest = {},
    more: Partial<ContainerClaim> = {},
  ): Promise<string> {
    const id = newId()
    await this.containers.claim(id, this.claimOf({ ...request, command }, more))
    return id
  }

  /** One that was created by a request of its own, and waits for a start. */
  async create(command: readonly string[], more: Partial<ContainerClaim> = {}): Promise<string> {
    const id = await this.claim(command, {}, { ...more, startedApart: true, job: 'create' })
    await this.containers.ready(id, 'create')
    return id
  }

  async start(
    command: readonly string[],
    request: ContainerRequest = {},
    more: Partial<ContainerClaim> = {},
  ): Promise<string> {
    const id = await this.claim(command, request, more)
    await this.containers.launch(id)
    return id
  }

  /** Runs to the end: code and output, then removed. */
  async run(
    command: readonly string[],
    request: ContainerRequest = {},
    more: Partial<ContainerClaim> = {},
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    const id = await this.start(command, request, more)
    const { code } = await this.containers.wait(id)
    const result = {
      code,
      stdout: (await this.output(id, { stream: 1 })).toString(),
      stderr: (await this.output(id, { stream: 2 })).toString(),
    }
    await this.containers.remove(id)
    return result
  }

  async output(id: string, options: LogOptions = {}): Promise<Buffer> {
    const chunks: Buffer[] = []
    for await (const chunk of this.containers.logs(id, options)) chunks.push(chunk.bytes)
    return Buffer.concat(chunks)
  }

  leaks(): string[] {
    return [
      ...leaksOf(this.options.node, this.options.runFolder, [this.folder]),
      ...this.warnings.map((warning) => `warning ${warning}`),
    ]
  }

  /**
   * Everything off, for after a test. Answers what was left over after all containers had been
   * removed.
   */
  async end(): Promise<string[]> {
    for (const { id } of this.containers.list()) await this.containers.remove(id, { force: true })
    await this.containers.close()
    const leaks = this.leaks()
    await rm(this.options.runFolder, { recursive: true, force: true })
    await rm(this.folder, { recursive: true, force: true })
    return leaks
  }
}

async function makeBusybox(root: string): Promise<void> {
  for (const folder of ['bin', 'etc', 'tmp', 'root']) await mkdir(join(root, folder), { recursive: true })
  await copyFile(findProgram('busybox'), join(root, 'bin/busybox'))
  for (const applet of [
    'sh',
    'cat',
    'echo',
    'sleep',
    'true',
    'id',
    'pwd',
    'ls',
    'ip',
    'hostname',
    'head',
    'dd',
    'grep',
    'kill',
    'seq',
    'env',
    'mount',
    'touch',
    'stat',
    'ps',
    'readlink',
    'wget',
    'nc',
  ])
    await symlink('busybox', join(root, 'bin', applet))
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n')
  await writeFile(join(root, 'etc/group'), 'root:x:0:\nweb:x:1001:\nstaff:x:50:web\n')
  await writeFile(join(root, 'etc/not-executable'), 'x')
}
