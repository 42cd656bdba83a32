import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/**
 * What tests could leave on the machine, as lines: mounts, loop devices, cgroups, processes, files.
 * Of a machine that others use as well only what carries Strata's name, or lies in `folder`, which
 * all temporary files of the run go to.
 */
export function leftovers(folder) {
  const ours = (text) => text.includes(folder) || /strata/i.test(text)
  return new Set([
    ...lines('/proc/self/mountinfo')
      .map((line) => line.split(' ')[4])
      .filter(ours)
      .map((point) => `mount ${point}`),
    ...names('/sys/block')
      .filter((name) => name.startsWith('loop'))
      .map((name) => `${name} ${lines(`/sys/block/${name}/loop/backing_file`)[0] ?? ''}`)
      .filter(ours)
      .map((text) => `loop device ${text}`),
    ...cgroups('/sys/fs/cgroup').map((path) => `cgroup ${path}`),
    ...names('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((pid) => daemon(pid, ours)),
    ...names('/run/strata').map((name) => `/run/strata/${name}`),
    ...names('/var/tmp')
      .filter(ours)
      .map((name) => `/var/tmp/${name}`),
    ...names(folder).map((name) => `${folder}/${name}`),
  ])
}

/**
 * Waits until nothing is there that was not there before, ten seconds at most: the last processes
 * of a test may be on their way out.
 */
export async function newLeftovers(before, folder) {
  const end = Date.now() + 10_000
  for (;;) {
    const left = [...leftovers(folder)].filter((line) => !before.has(line))
    if (left.length === 0 || Date.now() > end) return left
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

function daemon(pid, ours) {
  const [comm = ''] = lines(`/proc/${pid}/comm`)
  if (!['conmon', 'redis-server', 'runc', 'runc:[2:INIT]'].includes(comm)) return []
  let cwd = ''
  try {
    cwd = readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    // It has ended.
  }
  const command = lines(`/proc/${pid}/cmdline`).join(' ').replaceAll('\0', ' ').trim()
  return ours(`${command} ${cwd}`) ? [`process ${pid} ${command.slice(0, 120)}`] : []
}

function cgroups(folder, depth = 0) {
  return names(folder, true).flatMap((name) => {
    const path = `${folder}/${name}`
    return /^strata[-.]/.test(name) ? [path] : depth < 4 ? cgroups(path, depth + 1) : []
  })
}

function names(folder, onlyFolders = false) {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => !onlyFolders || entry.isDirectory())
      .map((entry) => entry.name)
  } catch {
    return []
  }
}

function lines(file) {
  try {
    return readFileSync(file, 'utf8').split('\n').filter(Boolean)
  } catch {
    return []
  }
}
