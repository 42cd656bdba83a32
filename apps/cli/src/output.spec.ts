import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { frame, ServiceDouble } from './testing/service-double.js'

const BIN = fileURLToPath(new URL('../bin/strata.mjs', import.meta.url))
const FULL = 'cannot write to stdout: no space left on device'

let service: ServiceDouble
let folder: string
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-output-'))
  service = await ServiceDouble.start()
  service.json('GET /v1/images', 200, { images: [] })
  service.json('GET /v1/containers/c', 200, { id: 'c', command: ['x'.repeat(3_000)] })
  service.json('POST /v1/containers', 201, { id: 'c'.repeat(64) })
  service.json(`POST /v1/containers/${'c'.repeat(64)}/wait`, 200, { exitCode: 7 })
  for (const id of ['c', 'c'.repeat(64)])
    service.on(`GET /v1/containers/${id}/logs`, (_seen, response) => void response.end(frame(1, 'hello\n')))
  service.on('GET /v1/images/x/file', (_seen, response) => {
    response.writeHead(200, { 'content-length': 5 })
    response.end('hello')
  })
})
afterEach(async () => {
  await service[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

/** `strata` in a line of a shell, in `folder`. */
function shell(line: string): Promise<{ code: unknown; stderr: string }> {
  const env = { PATH: process.env['PATH'], STRATA_HOST: `unix://${service.socket}`, BIN }
  return new Promise((resolve) =>
    execFile('bash', ['--norc', '-c', line], { env, cwd: folder }, (error, _stdout, stderr) =>
      resolve({ code: error?.code ?? 0, stderr }),
    ),
  )
}

describe('an output that takes no more', () => {
  it.each([
    ['a list', 'images', FULL],
    ['an object', 'inspect c', FULL],
    ['logs', 'logs c', FULL],
    ['a file', 'cat x /f', FULL],
    ['a container', 'run x', `${FULL}; the container goes on (strata logs cccccccccccc)`],
  ])('of %s on a full disk is an error with its reason', async (_, command, says) => {
    expect(await shell(`"$BIN" ${command} > /dev/full`)).toEqual({ code: 1, stderr: `strata: ${says}\n` })
  })

  it('is one too where the disk still takes the beginning of what is written', async () => {
    // A limit of one KiB: a write that crosses it is a short one, and the next one fails.
    const result = await shell('ulimit -f 1; "$BIN" inspect c > short')
    expect(result).toEqual({ code: 1, stderr: 'strata: cannot write to stdout: file too large\n' })
    expect(readFileSync(join(folder, 'short'))).toHaveLength(1024)
  })

  it.each(['images', 'inspect c', 'logs c'])('is none where its reader has enough: %s', async (command) => {
    expect(await shell(`"$BIN" ${command} | true; exit \${PIPESTATUS[0]}`)).toEqual({ code: 0, stderr: '' })
  })
})
