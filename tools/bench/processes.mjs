import { spawn, spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'

const children = new Set()
let isInterrupted = false
// Whoever waits for a command, or starts the next one, ends by an error then, and stops what it has
// started.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    isInterrupted = true
    for (const child of children) child.kill('SIGTERM')
  })
}

export class Interrupted extends Error {
  message = 'interrupted'
}

export function throwIfInterrupted() {
  if (isInterrupted) throw new Interrupted()
}

/**
 * Runs a command to its end and returns what it wrote; an error if it fails. `peaks` hears of its
 * process.
 */
export async function run(program, args, { env = {}, peaks, input = 'ignore' } = {}) {
  throwIfInterrupted()
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: [input, 'pipe', 'pipe'] })
  const output = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => (output[0] += text))
  child.stderr.setEncoding('utf8').on('data', (text) => (output[1] += text))
  children.add(child)
  try {
    if (child.pid !== undefined) peaks?.watch(child.pid)
    const [code, signal] = await new Promise((resolve, reject) =>
      child.once('error', reject).once('close', (...end) => resolve(end)),
    )
    throwIfInterrupted()
    if (code !== 0)
      throw new Error(
        `${program} ${args.join(' ')} ended with ${signal ?? code}: ${output[1].trim() || output[0].trim()}`,
      )
    return output[0]
  } finally {
    children.delete(child)
  }
}

/** A command's output, or undefined where it is missing or fails. */
export function ask(program, args, env = {}) {
  const { status, stdout } = spawnSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  return status === 0 ? stdout.trim() : undefined
}

/**
 * Starts a daemon, its output in a file, and waits until `isReady`. It is in a session of its own:
 * a terminal's Ctrl-C reaches the bench alone, which ends it in order.
 */
export async function start(program, args, { env = {}, log, isReady }) {
  throwIfInterrupted()
  const output = openSync(log, 'a')
  const child = spawn(program, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', output, output],
    detached: true,
  })
  closeSync(output)
  let ended = false
  child.once('exit', () => (ended = true)).once('error', () => (ended = true))
  try {
    for (const until = performance.now() + 60_000; !(await isReady());) {
      throwIfInterrupted()
      if (ended || performance.now() > until)
        throw new Error(`${program} did not start: ${readFileSync(log, 'utf8').slice(-2000)}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  } catch (error) {
    await end(child)
    throw error
  }
  return child
}

/** SIGTERM, and after 30 s SIGKILL. */
export async function end(child) {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const last = setTimeout(() => child.kill('SIGKILL'), 30_000)
  await ended
  clearTimeout(last)
}
