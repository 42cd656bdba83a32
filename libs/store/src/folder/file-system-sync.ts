import { spawn } from 'node:child_process'
import { statSync } from 'node:fs'

/**
 * Makes the folder's whole file system durable: coreutils' `sync -f` (syncfs(2)) in a process of
 * its own. In this process it would stop the event loop for as long as the disk needs.
 */
export function syncFileSystem(folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('sync', ['-f', folder], { stdio: 'ignore' })
    child.on('error', reject)
    child.on('exit', (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`sync -f ${folder} ended with ${code ?? signal}`)),
    )
    child.unref()
  })
}

/** By device. */
const running = new Map<number, Promise<void>>()
const next = new Map<number, Promise<void>>()

/**
 * The same, one at a time for each file system. Who asks while one runs shares the next one: the
 * one that runs may have passed what was committed last.
 */
export async function sharedSync(folder: string): Promise<void> {
  const { dev } = statSync(folder)
  const shared = next.get(dev)
  // The folder of who asked first may be gone when its turn comes.
  if (shared) return shared.catch(() => syncFileSystem(folder))
  const mine = turnAfter(running.get(dev)).then(() => {
    next.delete(dev)
    const sync = syncFileSystem(folder)
    running.set(dev, sync)
    return sync.finally(() => {
      if (running.get(dev) === sync) running.delete(dev)
    })
  })
  next.set(dev, mine)
  return mine
}

async function turnAfter(other: Promise<void> | undefined): Promise<void> {
  await other?.catch(() => undefined)
}
