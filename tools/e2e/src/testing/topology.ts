import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { serviceMain } from '@strata/cli/service'

export const SERVICES = ['gateway', 'ingest', 'extractor', 'storage', 'runtime'] as const
export type Service = (typeof SERVICES)[number]
/**
 * All services of a group in one process, started as `strata up` does; or each a process of its
 * own, where gateway and nodes share no folder and nodes' doors are TCP.
 */
export type Topology = 'standalone' | 'processes'

/** What the tests are run on unless they say themselves: STRATA_TEST_TOPOLOGY. */
export function testTopology(): Topology {
  const text = process.env['STRATA_TEST_TOPOLOGY'] ?? 'standalone'
  if (text === 'standalone' || text === 'processes') return text
  throw new Error(`STRATA_TEST_TOPOLOGY is ${text}: it must be standalone or processes`)
}

/**
 * Whether everything is asked here. In one process it always is, and of services that run apart
 * where `STRATA_TEST_LONG=1`. Otherwise these are asked what differs when services are apart: what
 * crosses from one to another, and what lies in a bucket instead of a folder. A row of a table that
 * runs the same code in the same process for either is left out.
 */
export function asksAll(): boolean {
  return testTopology() === 'standalone' || process.env['STRATA_TEST_LONG'] === '1'
}

/** What every process of one Strata under test has in common. */
export interface Ground {
  readonly folder: string
  readonly data: string
  readonly socket: string
  readonly node: { readonly id: string; readonly folder: string; readonly run: string }
  /** STRATA_STORE and what belongs to it. */
  readonly store: { readonly STRATA_STORE: string } & Readonly<Record<string, string>>
}
/** A process to start: its program, and its environment beside what a test sets. */
export interface Program {
  readonly main: string
  readonly services: readonly Service[]
  readonly environment: Readonly<Record<string, string>>
}

/** A secret that no test may find anywhere but in its file. */
const SECRET = 'the-secret-of-the-nodes-under-test'

/** Without `redis` the process starts its private one. */
export function standalone(group: readonly Service[], ground: Ground, redis: string | undefined): Program[] {
  const environment = {
    STRATA_DATA: ground.data,
    STRATA_SOCKET: ground.socket,
    STRATA_SERVICES: group.join(','),
    ...ground.store,
    ...(redis === undefined ? {} : { STRATA_REDIS: redis }),
  }
  return [{ main: serviceMain('standalone'), services: group, environment }]
}

/** `name`: of this group, where another has the same services. */
export function processes(
  group: readonly Service[],
  ground: Ground,
  redis: string,
  name: string | undefined,
): Program[] {
  const common = { STRATA_REDIS: redis, ...ground.store }
  const node = { STRATA_NODE: ground.node.id, STRATA_NODE_FOLDER: ground.node.folder }
  const own: Readonly<Record<Service, Record<string, string>>> = {
    gateway: {
      STRATA_SOCKET: ground.socket,
      STRATA_TOKEN_FILE: tokenFile('processes', ground),
      STRATA_NODE_SECRET_FILE: join(ground.folder, 'gateway', 'node-secret'),
    },
    ingest: { STRATA_NODE_SECRET_FILE: join(ground.folder, 'gateway', 'node-secret') },
    storage: {},
    extractor: node,
    runtime: {
      ...node,
      STRATA_RUN_FOLDER: ground.node.run,
      STRATA_NODE_SECRET_FILE: join(ground.data, 'node-secret'),
      STRATA_DOOR_LISTEN: '127.0.0.1:0',
    },
  }
  return group.map((service) => ({
    main: serviceMain(service),
    services: [service],
    environment: { ...common, ...own[service], STRATA_HEALTH: healthSocket(ground, service, name) },
  }))
}

/** Of services that run apart. */
export function healthSocket(ground: Pick<Ground, 'folder'>, service: Service, name: string | undefined): string {
  return join(ground.folder, 'health', name === undefined ? service : `${name}.${service}`)
}

/** The files that a person makes before services are started apart: each side has its own. */
export function makeSecrets(ground: Pick<Ground, 'folder' | 'data'>): void {
  for (const [folder, name, text] of [
    [join(ground.folder, 'gateway'), 'node-secret', SECRET],
    [join(ground.folder, 'gateway'), 'token', 'the-token-of-the-gateways-under-test'],
    [ground.data, 'node-secret', SECRET],
  ] as const) {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    writeFileSync(join(folder, name), `${text}\n`, { mode: 0o600 })
  }
}

export function tokenFile(topology: Topology, ground: Pick<Ground, 'folder' | 'data'>): string {
  return topology === 'standalone' ? join(ground.data, 'token') : join(ground.folder, 'gateway', 'token')
}
