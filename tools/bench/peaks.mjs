import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'

const EVERY_MS = 50

/**
 * The peak memory (VmHWM) of processes and of all that they start, while it watches. A short-lived
 * process is seen if it lives longer than the step of 50 ms.
 */
export class Peaks {
  #roots = new Map()
  #found = new Map()
  #timer = setInterval(() => this.#look(), EVERY_MS)

  /**
   * Named `label`, or as its command. What a process took before does not count
   * (proc_pid_clear_refs(5)).
   */
  watch(pid, label) {
    for (const each of tree(pid)) attempt(() => writeFileSync(`/proc/${each}/clear_refs`, '5'))
    this.#roots.set(pid, label)
  }

  /** `{ name: MiB }`; of several processes with one name, the largest. */
  end() {
    clearInterval(this.#timer)
    this.#look()
    const peaks = {}
    for (const { name, peak } of this.#found.values()) peaks[name] = Math.max(peaks[name] ?? 0, peak)
    return peaks
  }

  #look() {
    for (const [root, label] of this.#roots) {
      for (const pid of tree(root)) {
        const peak = attempt(() => memory(pid).peak)
        // A name is taken at each look: a process has its parent's until its own exec.
        const name = pid === root && label !== undefined ? label : (command(pid) ?? this.#found.get(pid)?.name)
        if (peak !== undefined && name !== undefined) this.#found.set(pid, { name, peak })
      }
    }
  }
}

/** Of several rounds' peaks the largest of each process that matters, as text. */
export function largest(rounds) {
  const most = {}
  for (const peaks of rounds)
    for (const [name, peak] of Object.entries(peaks)) most[name] = Math.max(most[name] ?? 0, peak)
  return Object.entries(most)
    .filter(([, peak]) => peak >= 10)
    .sort((a, b) => b[1] - a[1])
    .map(([name, peak]) => `${name} ${peak.toFixed(0)}`)
    .join(', ')
}

/** proc_pid_status(5), MiB. */
export function memory(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const of = (field) => Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)[1]) / 1024
  return { now: of('VmRSS'), peak: of('VmHWM') }
}

function tree(pid) {
  const threads = attempt(() => readdirSync(`/proc/${pid}/task`)) ?? []
  const children = threads.flatMap((thread) =>
    (attempt(() => readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8')) ?? '').split(' ').filter(Boolean),
  )
  return [pid, ...children.flatMap((child) => tree(Number(child)))]
}

function command(pid) {
  const [name, ...args] = (attempt(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')) ?? '').split('\0')
  if (!name) return undefined
  // A daemon may write a title there, with blanks; `apps/cli/dist/main.js` is called after its app.
  const script = args.find((arg) => !arg.startsWith('-'))
  return basename(name) === 'node' && script ? basename(dirname(dirname(script))) : basename(name.split(' ')[0])
}

/** What is read of a process may be gone at any moment. */
function attempt(read) {
  try {
    return read()
  } catch {
    return undefined
  }
}
