import { readdir } from 'node:fs/promises'
import { StrataError } from '@strata/base'
import { z } from 'zod'
import { runProgram } from './program.js'
import type { RuntimeAbout, RuntimeDriver, RuntimeState } from './runtime-driver.js'

const stateSchema = z.object({ status: z.string(), pid: z.number().int().nonnegative() })
const ABSENT = /does not exist/

/**
 * runc, and what has its command line (crun). State lies in `root`, on a tmpfs: after a reboot
 * nothing of it may be left.
 */
export class Runc implements RuntimeDriver {
  readonly globalArgs: readonly string[]

  constructor(
    readonly path: string,
    private readonly root: string,
    private readonly scratch: string,
  ) {
    this.globalArgs = [`--root=${root}`]
  }

  async about(): Promise<RuntimeAbout> {
    const { stdout } = await runProgram([this.path, '--version'], this.scratch)
    return { version: (stdout.split('\n')[0] ?? '').slice(0, 100) || this.path, warnings: runcWarnings(stdout) }
  }

  async start(id: string): Promise<void> {
    const { code, stderr } = await this.#run('start', id)
    if (code !== 0)
      throw new StrataError('launch_failed', `the runtime could not start the container: ${runtimeMessage(stderr)}`)
  }

  async kill(id: string, signal: string): Promise<boolean> {
    const { code, stderr } = await this.#run('kill', id, signal)
    if (code === 0) return true
    if (ABSENT.test(stderr) || /not running|already finished|no such process/.test(stderr)) return false
    throw new StrataError('bad_request', `the runtime could not send signal ${signal}: ${runtimeMessage(stderr)}`)
  }

  async delete(id: string): Promise<void> {
    const { code, stderr } = await this.#run('delete', '--force', id)
    if (code !== 0 && !ABSENT.test(stderr))
      throw new StrataError(
        'driver_unavailable',
        `the runtime could not delete container ${id}: ${runtimeMessage(stderr)}`,
      )
  }

  async state(id: string): Promise<RuntimeState | undefined> {
    const { code, stdout, stderr } = await this.#run('state', id)
    if (code !== 0) {
      if (ABSENT.test(stderr)) return undefined
      throw new StrataError(
        'driver_unavailable',
        `the runtime could not tell the state of container ${id}: ${runtimeMessage(stderr)}`,
      )
    }
    const { status, pid } = stateSchema.parse(JSON.parse(stdout))
    // `paused` is a running one of which somebody else has hold; `creating` cannot yet be started.
    return { status: status === 'created' || status === 'stopped' ? status : 'running', pid }
  }

  /**
   * A container has a folder of its name. `runc list` reads what is in each: it leaves out what it
   * cannot read, and that would never be deleted.
   */
  async list(): Promise<string[]> {
    // runc makes it with the first container.
    const folders = await readdir(this.root, { withFileTypes: true }).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
      throw error
    })
    return folders.filter((one) => one.isDirectory() && !one.name.startsWith('.')).map(({ name }) => name)
  }

  #run(...args: string[]) {
    return runProgram([this.path, ...this.globalArgs, ...args], this.scratch)
  }
}

/**
 * The last line that the runtime wrote, without its log's decoration (`time="…" level=error
 * msg="…"`).
 */
export function runtimeMessage(stderr: string): string {
  const line = stderr.trim().split('\n').at(-1) ?? ''
  const message =
    /msg="((?:[^"\\]|\\.)*)"/.exec(line)?.[1]?.replaceAll(/\\(.)/g, '$1') ?? line.replace(/^\S+ error: /, '')
  return message.trim().slice(0, 2000) || 'it said nothing'
}

/**
 * Why a container could not be created, as docker tells it: a command that is not there (127), one
 * that cannot be executed (126), anything else (125).
 * @param message conmon's, from the runtime's stderr
 */
export function createError(message: string): StrataError {
  const text = runtimeMessage(message)
  if (/executable file not found|no such file or directory/i.test(text) && /exec: |stat .*no such file/.test(text))
    return new StrataError('command_not_found', `the command was not found: ${text}`)
  if (
    /exec(?:: | format)|starting container process/i.test(text) &&
    /permission denied|is a directory|exec format error/i.test(text)
  ) {
    return new StrataError('command_not_executable', `the command cannot be executed: ${text}`)
  }
  return new StrataError('launch_failed', `the container could not be created: ${text}`)
}

/**
 * Fixed for known escapes: CVE-2025-31133, -52565, -52881 (1.2.8), CVE-2026-41579 (1.3.6).
 * Distributions patch older ones, so it is a warning.
 */
export function runcWarnings(version: string): string[] {
  const match = /^runc version (\d+)\.(\d+)\.(\d+)(\S*)/.exec(version)
  if (!match) return []
  const [major = 0, minor = 0, patch = 0] = match.slice(1, 4).map(Number)
  const old = major < 1 || (major === 1 && (minor < 2 || (minor === 2 && patch < 8) || (minor === 3 && patch < 6)))
  return old
    ? [
        `runc ${major}.${minor}.${patch}${match[4] ?? ''} is older than 1.3.6 (1.2.8 on that branch), which mend ways out of a container; make sure that your distribution has patched it`,
      ]
    : []
}
