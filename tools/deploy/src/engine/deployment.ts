import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { COMPOSE_FILE, readComposeFile } from '../compose-file.js'
import { makeBaseImages } from './base-images.js'
import { TestHost } from './host.js'

/**
 * A host on which `docker compose up` needs no registry: every image that docker-compose.yml names
 * is there, built from the checkout as it is. `say` is told of each step and its seconds. What is
 * in the folder from before is used again.
 */
export async function prepareHost(folder: string, say: (line: string) => void): Promise<TestHost> {
  mkdirSync(folder, { recursive: true })
  const timed = async <T>(what: string, work: () => T | Promise<T>): Promise<T> => {
    const begin = performance.now()
    const result = await work()
    say(`${((performance.now() - begin) / 1000).toFixed(1)} s  ${what}`)
    return result
  }
  await TestHost.at(folder).stop()
  const builder = await timed('start the engine that builds (the first time: build compose)', () =>
    TestHost.start(folder, 'connected'),
  )
  try {
    await timed('make the base images', () => {
      makeBaseImages(builder)
    })
    await timed('build the images of docker-compose.yml', () => {
      buildImages(builder)
    })
  } finally {
    await builder.stop()
  }
  return timed('start the engine in a network of its own', () => TestHost.start(folder, 'isolated'))
}

/** `docker compose build`, its steps in the network of the engine: the engine has no bridge. */
function buildImages(host: TestHost): void {
  const byImage = new Map<string, string>()
  for (const [name, { build, image }] of Object.entries(readComposeFile().services))
    if (build !== undefined) byImage.set(image, name)
  const services = [...byImage.values()]
  const override = join(host.folder, 'build.yml')
  const builds = services.map((name) => [name, { build: { network: 'host' } }])
  writeFileSync(override, JSON.stringify({ services: Object.fromEntries(builds) as unknown }))
  const { status, stdout, stderr } = host.dockerWith(
    { env: { COMPOSE_FILE: `${COMPOSE_FILE}:${override}` } },
    ...['compose', '--progress', 'plain', 'build', ...services],
  )
  if (status !== 0) throw new Error(`docker compose build: exit ${String(status)}\n${(stdout + stderr).slice(-8000)}`)
}
