import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { NODE_FLAGS, SERVICE_ENVIRONMENT } from '@strata/cli/service'
import { mountTable, umount } from '@strata/linux'
import { openStore, type ObjectStore } from '@strata/store'
import { TestS3 } from '@strata/store/testing'
import { RedisServer } from './redis-server.js'
import {
  healthSocket,
  makeSecrets,
  processes,
  SERVICES,
  standalone,
  testTopology,
  tokenFile,
  type Ground,
  type Service,
  type Topology,
} from './topology.js'

export type { Service, Topology } from './topology.js'
export const CLI = fileURLToPath(new URL('../../../../apps/cli/bin/strata.mjs', import.meta.url))

/**
 * Services and CLI have no more of the test's environment. The compile cache spares them a fifth of
 * what a start costs.
 */
export const INHERITED: Readonly<Record<string, string>> = Object.fromEntries(
  ['PATH', 'NODE_COMPILE_CACHE'].flatMap((name) =>
    process.env[name] === undefined ? [] : [[name, process.env[name]]],
  ),
)

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly bytes: Buffer
  json<T>(): T
}
/** Where a node keeps its things, as the composition root lays them out. */
export interface TestNode {
  readonly id: string
  readonly folder: string
  readonly run: string
}
export interface Output {
  readonly code: number
  readonly stdout: Buffer
  readonly stderr: string
}

export interface RequestOptions {
  readonly length?: number
  readonly signal?: AbortSignal
  /** Of another gateway than the first. */
  readonly socket?: string
  readonly headers?: Readonly<Record<string, string>>
}
export interface StrataOptions {
  /** For every process, over what the topology sets. */
  readonly environment?: Record<string, string>
  /** What runs each process: `unshare`, … It is to become the process, as `exec` does. */
  readonly under?: readonly string[]
  /** Which services are started, and stopped, together; all if left out. */
  readonly groups?: readonly (readonly Service[])[]
  /** STRATA_TEST_TOPOLOGY if left out. */
  readonly topology?: Topology
  /**
   * If left out, a folder standalone, MinIO for processes. A server given is the caller's to
   * remove.
   */
  readonly store?: 'folder' | TestS3
  /** Fills the data folder before the first start. */
  readonly prepare?: (data: string) => Promise<void>
  /** The data folder's name, `data` if left out. */
  readonly dataName?: string
  /** If false, the test starts the services itself (`startGroup`). */
  readonly started?: boolean
}

/**
 * A Strata of the test's own: real processes, real Redis, a store of its own, reached through its
 * socket only.
 */
export class StrataUnderTest {
  readonly #processes: {
    readonly group: string
    readonly services: readonly Service[]
    readonly child: ChildProcess
    readonly health: string | undefined
  }[] = []
  readonly #nodes = new Map<string, TestNode>()
  /** Of services that run apart. */
  readonly redis: RedisServer
  #store: Promise<ObjectStore> | undefined
  #log = ''

  private constructor(
    readonly folder: string,
    readonly topology: Topology,
    private readonly environment: Record<string, string>,
    /** Where the store is no folder. */
    readonly s3: TestS3 | undefined,
    private readonly ownS3: boolean,
    private readonly dataName: string,
    private readonly under: readonly string[],
  ) {
    this.redis = new RedisServer(join(this.data, 'redis'))
  }

  static async start(options: StrataOptions = {}): Promise<StrataUnderTest> {
    // Not below /tmp: that may be a tmpfs or an overlay, and real nodes keep layers on a disk.
    const folder = await mkdtemp('/var/tmp/strata-e2e-')
    const topology = options.topology ?? testTopology()
    const ownS3 = options.store === undefined && topology === 'processes'
    const s3 = ownS3 ? await TestS3.start('minio', '/var/tmp') : options.store === 'folder' ? undefined : options.store
    const strata = new StrataUnderTest(
      folder,
      topology,
      options.environment ?? {},
      s3,
      ownS3,
      options.dataName ?? 'data',
      options.under ?? [],
    )
    try {
      mkdirSync(strata.data, { mode: 0o711 })
      if (strata.topology === 'processes') makeSecrets(strata)
      await options.prepare?.(strata.data)
      if (options.started !== false) await strata.startProcesses(options.groups)
    } catch (error) {
      await strata.remove()
      throw error
    }
    return strata
  }

  get data(): string {
    return join(this.folder, this.dataName)
  }
  /** The nodes that were ever started: one, unless a test started more. */
  get nodes(): readonly TestNode[] {
    return [...this.#nodes.values()]
  }
  get node(): TestNode {
    return this.nodes[0] ?? this.#addNode(this.environment)
  }
  get socket(): string {
    return join(this.folder, 's.sock')
  }
  get tokenFile(): string {
    return tokenFile(this.topology, this)
  }
  get redisSocket(): string {
    return join(this.data, 'redis', 'redis.sock')
  }
  /** The store, seen beside the services. */
  store(): Promise<ObjectStore> {
    return (this.#store ??= openStore({ STRATA_S3_REGION: 'us-east-1', ...this.#ground(this.node).store }))
  }
  /** What the processes wrote to stderr. */
  get log(): string {
    return this.#log
  }
  /** Of the process that runs the service; of a certain group, where several have one. */
  pid(service: Service, group?: string): number {
    return (
      this.#processes.find((one) => one.services.includes(service) && (group === undefined || one.group === group))
        ?.child.pid ?? -1
    )
  }

  /** With Redis: standalone, the first group has the private one and the others find it. */
  async startProcesses(groups: readonly (readonly Service[])[] = [SERVICES]): Promise<void> {
    if (this.topology === 'processes' && this.environment['STRATA_REDIS'] === undefined && !this.redis.isRunning)
      await this.redis.start()
    for (const [index, group] of groups.entries()) await this.startGroup(group, index === 0)
    await this.ready()
  }

  /**
   * A group is known by its services, joined with commas, or by `name`: also a second node, or a
   * second gateway with a socket of its own, for which `environment` has an id, folders and
   * addresses.
   */
  async startGroup(
    group: readonly Service[],
    first = false,
    options: { name?: string; environment?: Record<string, string> } = {},
  ): Promise<void> {
    const name = options.name ?? group.join(',')
    const given = { ...this.environment, ...options.environment }
    const node = group.includes('runtime') ? this.#addNode(given) : this.node
    const url = `unix://${this.redisSocket}`
    const programs =
      this.topology === 'standalone'
        ? standalone(group, this.#ground(node), first ? undefined : url)
        : processes(group, this.#ground(node), url, options.name)
    for (const { main, services, environment } of programs) {
      const [file, ...args] = [...this.under, process.execPath, ...NODE_FLAGS, main]
      const child = spawn(file, args, {
        env: { ...INHERITED, ...SERVICE_ENVIRONMENT, STRATA_LOG_LEVEL: 'warn', ...environment, ...given },
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      this.#processes.push({ group: name, services, child, health: environment['STRATA_HEALTH'] })
      child.stderr.on('data', (text: Buffer) => (this.#log += text.toString()))
      if (this.topology === 'standalone' && first && this.environment['STRATA_REDIS'] === undefined)
        await until(
          () => child.exitCode !== null || child.signalCode !== null || existsSync(this.redisSocket),
          'Redis is up',
        )
      if (child.exitCode !== null) throw await this.#ended(child)
    }
  }

  async ready(): Promise<void> {
    await until(
      async () => {
        const dead = this.#processes.find(({ child }) => child.exitCode !== null)
        if (dead) throw await this.#ended(dead.child)
        if (!(await this.#answers('/v1/health/ready', this.socket))) return false
        // What a killed node said of itself is still believed for a while: services that run apart
        // are asked themselves.
        const asked = await Promise.all(
          this.#processes.map(async ({ health }) => health === undefined || this.#answers('/health/ready', health)),
        )
        return asked.every(Boolean)
      },
      'ready',
      60,
      100,
    )
  }

  async #answers(path: string, socket: string): Promise<boolean> {
    return (await this.request('GET', path, undefined, { socket }).catch(() => undefined))?.status === 200
  }

  /** What a service that runs apart says of its health. */
  async health(
    service: Service,
    question: 'live' | 'ready',
    group?: string,
  ): Promise<{ status: number; reasons?: string[] }> {
    const answer = await this.request('GET', `/health/${question}`, undefined, {
      socket: healthSocket(this, service, group),
    })
    return { ...answer.json<{ reasons?: string[] }>(), status: answer.status }
  }

  /** The metrics of a service that runs apart. */
  async metrics(service: Service): Promise<string> {
    const answer = await this.request('GET', '/metrics', undefined, { socket: healthSocket(this, service, undefined) })
    if (answer.status !== 200) throw new Error(`metrics: ${answer.status}`)
    return answer.bytes.toString()
  }

  /**
   * Ends one group or all, and waits until its processes are gone; gives their exit codes. All by
   * SIGTERM: Redis too; by SIGKILL it stays, as a private one does.
   */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM', group?: string): Promise<(number | null)[]> {
    const codes: (number | null)[] = []
    for (const one of [...this.#processes].reverse()) {
      if (group !== undefined && one.group !== group) continue
      codes.push(await end(one.child, signal))
      this.#processes.splice(this.#processes.indexOf(one), 1)
    }
    if (group === undefined && signal === 'SIGTERM') await this.redis.stop()
    return codes
  }

  /**
   * Stops all and removes all; throws if containers, mounts or processes of this Strata are still
   * there.
   */
  async dispose(): Promise<void> {
    let left: string[]
    try {
      // A node that has much to do may be taken for one that does not answer.
      await until(async () => {
        for (const { id } of await this.containers()) await this.request('DELETE', `/v1/containers/${id}?force`)
        return (await this.containers()).length === 0
      }, 'no container is left')
      for (const { id } of await this.images())
        await until(
          async () => (await this.request('DELETE', `/v1/images/${encodeURIComponent(id)}/mount`)).status < 500,
          `${id} is not mounted`,
        )
      await this.stop()
      // The store's last sync is a process of its own, which ends by itself.
      const isSynced = async () => !(await this.leftovers()).some((line) => /^process \d+: sync -f /.test(line))
      await until(isSynced, 'the store is on the disk')
      left = [...(await this.leftovers()), ...this.nodes.flatMap(leftOnNode)]
    } finally {
      await this.remove()
    }
    if (left.length > 0) throw new Error(`left over: ${left.join('; ')}`)
  }

  /** After `stop`: what of this Strata is outside its folder, or mounted, or running. */
  async leftovers(): Promise<string[]> {
    const mounts = mountTable()
      .filter(({ mountPoint }) => this.nodes.some(({ folder }) => mountPoint.startsWith(`${folder}/`)))
      .map(({ mountPoint }) => `mount ${mountPoint}`)
    const processes: string[] = []
    for (const pid of await readdir('/proc')) {
      if (!/^\d+$/.test(pid)) continue
      const command = readFileSyncOr(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')
      if (command.includes(this.folder)) processes.push(`process ${pid}: ${command.slice(0, 200)}`)
    }
    return [...mounts, ...processes]
  }

  async remove(): Promise<void> {
    await this.#store?.then(
      (store) => store.close(),
      () => undefined,
    )
    await this.stop('SIGKILL')
    await this.redis.stop('SIGKILL')
    if (this.ownS3) await this.s3?.remove()
    for (const { mountPoint } of mountTable()
      .filter(({ mountPoint }) => mountPoint.startsWith(`${this.folder}/`))
      .reverse())
      umount(mountPoint, 2)
    await rm(this.folder, { recursive: true, force: true })
    for (const { run } of this.nodes) await rm(run, { recursive: true, force: true })
  }

  /** With all that it wrote: that may come after its end. */
  async #ended(child: ChildProcess): Promise<Error> {
    if (child.stderr?.closed === false) await new Promise((resolve) => child.stderr?.once('close', resolve))
    return new Error(`Strata ended: ${this.#log}`)
  }

  #ground(node: TestNode): Ground {
    return {
      folder: this.folder,
      data: this.data,
      socket: this.socket,
      node,
      store: {
        STRATA_STORE: join(this.data, 'store'),
        ...(this.s3?.environment() as Record<string, string> | undefined),
      },
    }
  }

  #addNode(environment: Record<string, string>): TestNode {
    const id = environment['STRATA_NODE'] ?? `n${createHash('sha256').update(this.data).digest('hex').slice(0, 8)}`
    const node = {
      id,
      folder: environment['STRATA_NODE_FOLDER'] ?? join(this.data, 'node'),
      run: environment['STRATA_RUN_FOLDER'] ?? `/run/strata/${id}`,
    }
    // By its folder too: a test may start a second node of the same id.
    this.#nodes.set(`${id} ${node.folder}`, node)
    return node
  }

  /**
   * A request through the socket. A string or object body is JSON; a stream is sent as it comes
   * (chunked unless `length` is given).
   */
  async request(method: string, path: string, body?: unknown, options: RequestOptions = {}): Promise<Answer> {
    const answer = await this.open(method, path, body, options)
    const bytes = await buffer(answer)
    return {
      status: answer.statusCode ?? 0,
      headers: answer.headers,
      bytes,
      json: <T>() => JSON.parse(bytes.toString()) as T,
    }
  }

  async open(method: string, path: string, body?: unknown, options: RequestOptions = {}): Promise<IncomingMessage> {
    const isStream = body instanceof Readable
    const json = body === undefined || isStream ? undefined : Buffer.from(JSON.stringify(body))
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        socketPath: options.socket ?? this.socket,
        method,
        path,
        agent: false,
        ...(options.signal ? { signal: options.signal } : {}),
        headers: {
          ...options.headers,
          ...(json ? { 'content-type': 'application/json', 'content-length': json.length } : {}),
          ...(options.length === undefined ? {} : { 'content-length': options.length }),
        },
      })
      request.once('response', resolve)
      request.once('error', reject)
      if (isStream) pipeline(body, request).catch(() => undefined)
      else request.end(json)
    })
  }

  /** Loads an archive; throws the problem if it is refused. */
  async load(
    archive: string | Readable,
    query = '',
  ): Promise<{ images: { id: string; digest: string; names: string[]; layers: number }[] }> {
    const answer = await this.request(
      'POST',
      `/v1/images${query}`,
      typeof archive === 'string' ? createReadStream(archive) : archive,
    )
    if (answer.status !== 201) throw new Error(`load: ${answer.status} ${answer.bytes.toString()}`)
    return answer.json()
  }

  async images(): Promise<{ id: string; digest: string; names: string[]; platforms?: string[] }[]> {
    return (await this.request('GET', '/v1/images?limit=1000')).json<{ images: [] }>().images
  }

  async containers(): Promise<
    { id: string; name: string; state: string; exitCode?: number; reason?: string; pid?: number }[]
  > {
    return (await this.request('GET', '/v1/containers?all&limit=1000')).json<{ containers: [] }>().containers
  }

  /** The CLI, as a person calls it. */
  async cli(
    args: readonly string[],
    options: { input?: Readable; environment?: NodeJS.ProcessEnv } = {},
  ): Promise<Output> {
    const child = this.spawnCli(args, options.environment)
    const stdout: Buffer[] = []
    let stderr = ''
    child.stdout?.on('data', (piece: Buffer) => stdout.push(piece))
    child.stderr?.on('data', (piece: Buffer) => (stderr += piece.toString()))
    if (options.input && child.stdin) pipeline(options.input, child.stdin).catch(() => undefined)
    else child.stdin?.end()
    const code = await new Promise<number>((resolve) =>
      child.once('close', (exit, signal) => resolve(exit ?? (signal === 'SIGKILL' ? 137 : 143))),
    )
    return { code, stdout: Buffer.concat(stdout), stderr }
  }

  spawnCli(args: readonly string[], environment: NodeJS.ProcessEnv = {}): ChildProcess {
    return spawn(process.execPath, [CLI, ...args], {
      env: { ...INHERITED, ...environment, STRATA_HOST: `unix://${this.socket}` },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await gone
  return child.exitCode
}

/** Stopped by SIGSTOP, or gone: the state in /proc/PID/stat (proc_pid_stat(5)). */
export function standsStill(pid: number): boolean {
  const state = /^.*\) (.)/s.exec(readFileSyncOr(`/proc/${pid}/stat`))?.[1]
  return state === undefined || 'TZX'.includes(state)
}

/**
 * Waits for a state; gives up with its name after a minute. What is dear to look at is looked at
 * less often.
 */
export async function until(
  state: () => boolean | Promise<boolean>,
  name: string,
  seconds = 60,
  everyMs = 50,
): Promise<void> {
  const end = performance.now() + seconds * 1000
  while (!(await state())) {
    if (performance.now() > end) throw new Error(`waited ${seconds} s in vain for: ${name}`)
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}

/**
 * What of a node's containers is there, a line each: for when all are removed. Its cgroups and run
 * folder lie outside the data. The monitors' group is the node's, and goes when that ends.
 */
export function leftOnNode({ id, folder, run }: TestNode): string[] {
  const places: [string, string[]][] = [
    [join(folder, 'containers'), ['lock', 'removed', 'served-as']],
    [join(folder, 'roots'), []],
    [join(folder, 'snapshots', 'snapshots'), []],
    [join(folder, 'snapshots', 'tmp'), []],
    [join(folder, 'layers', 'tmp'), []],
    [run, ['bundles', 'runc', 'door.sock']],
    [join(run, 'bundles'), []],
    [join(run, 'runc'), []],
    ...mountTable()
      .filter(({ fsType }) => fsType.startsWith('cgroup'))
      .map(({ mountPoint }): [string, string[]] => [join(mountPoint, `strata-${id}`), ['monitors']]),
  ]
  return places.flatMap(([place, fine]) =>
    namesIn(place)
      .filter((name) => !fine.includes(name) && !isCgroupFile(place, name))
      .map((name) => join(place, name)),
  )
}

function isCgroupFile(place: string, name: string): boolean {
  return place.startsWith('/sys/') && !lstatSync(join(place, name), { throwIfNoEntry: false })?.isDirectory()
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function readFileSyncOr(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
