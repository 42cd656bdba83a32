import { closeSync } from 'node:fs'
import { posixSpawn, reap, type SpawnRequest } from '@strata/linux'
import { StrataError } from '@strata/base'
import { makePipe, readPipe } from './pipe.js'

/**
 * The little that our children get to see of our environment: PATH, for the runtime's own look-ups
 * (iptables, criu).
 */
export const CHILD_ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }

const MAX_OUTPUT = 4 * 1024 * 1024

const CANNOT_RUN = ['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'ENOEXEC', 'ELIBBAD', 'ETXTBSY']

/**
 * posixSpawn, of a program that was found when the service started.
 * @throws StrataError `driver_unavailable` if it is gone or may not be run; `overloaded` if the
 * machine has no room for another process
 */
export function spawnProgram(request: SpawnRequest): number {
  try {
    return posixSpawn(request)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    if (code === 'EAGAIN')
      throw new StrataError('overloaded', `the machine has no room for another process (${request.file})`, {
        cause: error,
      })
    if (!CANNOT_RUN.includes(code)) throw error
    throw new StrataError('driver_unavailable', `${request.file} cannot be run (${code}): install it again`, {
      cause: error,
    })
  }
}

/**
 * Runs a program to its end. Not child_process: that forks, which costs in proportion to this
 * process's memory (a launch under 1 GB of heap took three times as long). Its end is seen by the
 * end of its output, so nothing polls.
 * @param folder where a pipe may be made for a moment
 */
export async function runProgram(
  argv: readonly [string, ...string[]],
  folder: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const out = makePipe(folder)
  const err = makePipe(folder)
  const outputs = Promise.all([collect(out.read), collect(err.read)])
  let pid: number
  try {
    pid = spawnProgram({ file: argv[0], argv, env: CHILD_ENV, stdio: [null, out.write, err.write] })
  } finally {
    closeSync(out.write)
    closeSync(err.write)
  }
  const [stdout, stderr] = await outputs
  return { code: await reap(pid), stdout, stderr }
}

async function collect(fd: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of readPipe(fd) as AsyncIterable<Buffer>) {
    if (size < MAX_OUTPUT) chunks.push(chunk)
    size += chunk.length
  }
  return Buffer.concat(chunks).toString('utf8')
}
