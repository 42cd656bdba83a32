import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Client } from './client.js'
import { download } from './download.js'
import { unixEndpoint } from './endpoint.js'
import { ServiceDouble } from './testing/service-double.js'

/** What others do to a path, right before the command looks at it again. */
const others = vi.hoisted(() => ({ act: undefined as ((path: unknown) => void) | undefined }))
vi.mock('node:fs', async (original) => {
  const actual = await original<typeof fs>()
  return {
    ...actual,
    realpathSync: (path: string) => (others.act?.(path), actual.realpathSync(path)),
    openSync: (path: string, ...rest: [fs.OpenMode, fs.Mode?]) => (others.act?.(path), actual.openSync(path, ...rest)),
  }
})

const PATH = '/v1/images/x/export'
let service: ServiceDouble
let folder: string
let out: string
beforeEach(async () => {
  folder = fs.mkdtempSync(join(tmpdir(), 'strata-exchange-'))
  out = join(folder, 'out.tar')
  service = await ServiceDouble.start()
  service.on(`GET ${PATH}`, (_seen, response) =>
    response.writeHead(200, { etag: '"a"', 'content-length': 3 }).end('new'),
  )
})
afterEach(async () => {
  others.act = undefined
  vi.restoreAllMocks()
  await service[Symbol.asyncDispose]()
  fs.rmSync(folder, { recursive: true })
})
const exported = (): Promise<void> => download(new Client(unixEndpoint(service.socket)), PATH, out)
const modeOf = (path: string): number => fs.statSync(path).mode & 0o777

it.each(['file', 'pipe'])('a %s that others exchange for a link is not followed', async (kind) => {
  const target = join(folder, 'shadow')
  fs.writeFileSync(target, 'secret', { mode: 0o600 })
  if (kind === 'file') fs.writeFileSync(out, 'laid', { mode: 0o666 })
  else execFileSync('mkfifo', [out])
  others.act = (path) => {
    if (path !== out) return
    others.act = undefined
    fs.rmSync(out)
    fs.symlinkSync(target, out)
  }
  await expect(exported()).rejects.toThrow(`"${out}" was exchanged while it was opened: try again`)
  expect(fs.readFileSync(target, 'utf8')).toBe('secret')
  expect(modeOf(target)).toBe(0o600)
  expect(fs.readdirSync(folder).sort()).toEqual(['out.tar', 'shadow'])
  expect(service.seen).toEqual([])
})

it.each([0o666, 0o600])('in place of a file of mode %d of another user comes a new one', async (laid) => {
  const fresh = join(folder, 'fresh')
  fs.writeFileSync(fresh, '')
  fs.writeFileSync(out, 'laid')
  fs.chmodSync(out, laid)
  const { uid } = fs.statSync(out)
  vi.spyOn(process, 'geteuid').mockReturnValue(uid + 1)
  await exported()
  expect(fs.readFileSync(out, 'utf8')).toBe('new')
  expect(modeOf(out)).toBe(laid & modeOf(fresh))
})

it('a pipe of another user is refused where others can write', async () => {
  execFileSync('mkfifo', [out])
  fs.chmodSync(folder, 0o1777)
  vi.spyOn(process, 'geteuid').mockReturnValue(fs.statSync(out).uid + 1)
  await expect(exported()).rejects.toThrow('is a pipe of another user')
  expect(service.seen).toEqual([])
})
