import { mkdirSync } from 'node:fs'
import { makeBaseImages } from './base-images.js'
import { TestHost } from './host.js'
import { makeReleases, type Releases } from './releases.js'

/** A host on which an operator has cloned Strata. */
export interface Deployment {
  readonly host: TestHost
  readonly releases: Releases
}

/**
 * Starts it. Every image that docker-compose.yml names is there: those that others publish are made
 * here, Strata's own are built in the operator's checkout. `say` is told of each step and its
 * seconds. What is in the folder from before is used again.
 */
export async function prepareHost(folder: string, say: (line: string) => void): Promise<Deployment> {
  mkdirSync(folder, { recursive: true })
  const timed = async <T>(what: string, work: () => T | Promise<T>): Promise<T> => {
    const begin = performance.now()
    const result = await work()
    say(`${((performance.now() - begin) / 1000).toFixed(1)} s  ${what}`)
    return result
  }
  const releases = await timed('clone the checkout', () => makeReleases(folder))
  const host = await timed('start the engine (the first time: build compose)', () => TestHost.start(folder))
  await timed('make the base images', () => {
    makeBaseImages(host)
  })
  await timed('build the images of docker-compose.yml', () => {
    buildImages(host, releases.checkout)
  })
  return { host, releases }
}

function buildImages(host: TestHost, checkout: string): void {
  const build = ['docker', 'compose', '--progress', 'plain', 'build']
  const { status, stdout, stderr } = host.exec(build, { folder: checkout })
  if (status !== 0) throw new Error(`docker compose build: exit ${String(status)}\n${(stdout + stderr).slice(-8000)}`)
}
