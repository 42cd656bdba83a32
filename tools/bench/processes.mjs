import { spawn, spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'

let isInterrupted = false
// Whoever runs the next command ends by an error then, and stops what it has started.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => (isInterrupted = true))

/** Runs a command to its end and returns what it wrote; an error if it fails. */
export function run(program, args, env = {}) {
  if (isInterrupted) throw new Error('interrupted')
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 })
  if (error) throw error
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}: ${stderr.trim() || stdout.trim()}`)
  return stdout
}

/** Starts a daemon, its output in a file, and waits until `isReady`. */
export async function start(program, args, { env = {}, log, isReady }) {
  const output = openSync(log, 'a')
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', output, output] })
  closeSync(output)
  let ended = false
  child.once('exit', () => (ended = true)).once('error', () => (ended = true))
  while (!isReady()) {
    if (ended) throw new Error(`${program} did not start; see ${log}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return child
}

export async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await ended
}

/** proc_pid_status(5), MiB. */
export function memory(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const of = (field) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)[1]) / 1024
  return { now: of('VmRSS'), peak: of('VmHWM') }
}

/** From here on the peak counts anew (proc_pid_clear_refs(5)). */
export function resetPeak(pid) {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
