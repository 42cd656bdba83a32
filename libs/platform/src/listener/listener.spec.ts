import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { closeListener, openListener } from './open-listener.js'
import { listenerText, parseTcpListener, type Listener } from './listener.js'
import { LIMITS } from '../testing/limits.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-door-'))
})
afterEach(() => rmSync(folder, { recursive: true }))
const unix = (): Listener => ({ kind: 'unix', path: join(folder, 's'), mode: 0o660 })

function get(socketPath: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: '/' }, (answer) => {
      answer.resume()
      resolve(answer.statusCode)
    })
      .once('error', reject)
      .end()
  })
}

describe('listeners', () => {
  it('a socket has its mode, answers, and is gone when closed', async () => {
    const server = await openListener(unix(), (_request, response) => void response.writeHead(204).end(), LIMITS)
    expect(statSync(join(folder, 's')).mode & 0o777).toBe(0o660)
    expect(await get(join(folder, 's'))).toBe(204)
    await closeListener(server, 100)
    expect(existsSync(join(folder, 's'))).toBe(false)
  })

  it('a socket that answers is not taken over, one whose owner died is', async () => {
    const server = await openListener(unix(), (_request, response) => void response.end(), LIMITS)
    await expect(openListener(unix(), () => undefined, LIMITS)).rejects.toThrow(/already running on .*strata down/)
    await closeListener(server, 100)
    // Under another name its server does not take it away.
    const dead = await openListener(unix(), () => undefined, LIMITS)
    renameSync(join(folder, 's'), join(folder, 'dead'))
    await closeListener(dead, 100)
    renameSync(join(folder, 'dead'), join(folder, 's'))
    await closeListener(await openListener(unix(), () => undefined, LIMITS), 100)
  })

  it.each([
    ['a file', (path: string) => writeFileSync(path, 'somebody’s')],
    ['a folder', (path: string) => mkdirSync(path)],
    ['a link', (path: string) => symlinkSync('/nowhere', path)],
  ])('%s in the place of the socket stays, and is said to be there', async (_, make) => {
    make(join(folder, 's'))
    await expect(openListener(unix(), () => undefined, LIMITS)).rejects.toThrow(
      `${join(folder, 's')} is no socket: move it away`,
    )
    expect(lstatSync(join(folder, 's'))).toBeDefined()
  })

  it('a port that is taken is said so', async () => {
    const server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, () => undefined, LIMITS)
    const { port } = server.address() as { port: number }
    await expect(openListener({ kind: 'tcp', host: '127.0.0.1', port }, () => undefined, LIMITS)).rejects.toThrow(
      new RegExp(`127.0.0.1:${port} is taken`),
    )
    await closeListener(server, 100)
  })

  it.each([
    ['127.0.0.1:80', 'http://127.0.0.1:80'],
    [':8080', 'http://:8080'],
    ['[::1]:9', 'http://[::1]:9'],
  ])('reads %s', (text, shown) => {
    expect(listenerText(parseTcpListener(text))).toBe(shown)
  })

  it.each(['80', 'a:b', 'a:70000', '::1:80', ''])('refuses %j', (text) => {
    expect(() => parseTcpListener(text)).toThrow(/is not HOST:PORT/)
  })
})
