import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { text } from 'node:stream/consumers'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { ServiceDouble } from './service-double.js'

const BIN = fileURLToPath(new URL('../../bin/strata.mjs', import.meta.url))

/** The compile cache of `npm test` spares a command a fifth of what its start costs. */
const INHERITED = Object.fromEntries(
  ['PATH', 'NODE_COMPILE_CACHE'].flatMap((name) =>
    process.env[name] === undefined ? [] : [[name, process.env[name]]],
  ),
)

export interface Outcome {
  readonly stdout: string
  readonly stderr: string
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export function start(
  service: ServiceDouble | undefined,
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): ChildProcessByStdio<Writable, Readable, Readable> {
  const host = service ? { STRATA_HOST: `unix://${service.socket}` } : {}
  return spawn(BIN, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...INHERITED, HOME: '/nonexistent', ...host, ...environment },
  })
}

/** The real command (built: `tsc -b`), to its end. */
export async function strata(
  service: ServiceDouble | undefined,
  args: readonly string[],
  { input = '', environment = {} }: { input?: string | Buffer; environment?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  const child = start(service, args, environment)
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  return outcome(child)
}

export async function outcome(child: ChildProcessByStdio<Writable, Readable, Readable>): Promise<Outcome> {
  const closed = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once('close', (code, signal) => resolve({ code, signal })),
  )
  const [stdout, stderr, end] = await Promise.all([text(child.stdout), text(child.stderr), closed])
  return { stdout, stderr, ...end }
}
