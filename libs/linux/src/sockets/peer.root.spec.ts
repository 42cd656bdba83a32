import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import {
  descriptorOf,
  duplicate,
  isReadable,
  openPidfd,
  peerCredentials,
  peerPidfd,
  pidfdIsAlive,
  receiveNow,
  systemSocketOf,
  waitReadable,
} from '../index.js'

let folder: string
let client: Socket
let accepted: Socket
let close: () => void
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-peer-'))
  const server = createServer({ pauseOnConnect: true }).listen(join(folder, 's'))
  await once(server, 'listening')
  const connection = once(server, 'connection') as Promise<[Socket]>
  client = connect(join(folder, 's'))
  accepted = (await connection)[0]
  close = () => void server.close()
})
afterEach(() => {
  client.destroy()
  accepted.destroy()
  close()
  rmSync(folder, { recursive: true, force: true })
})
const below = () => systemSocketOf(accepted)!

it('tells who connected, for good', () => {
  expect(peerCredentials(below().fd)).toEqual({ pid: process.pid, uid: process.getuid!(), gid: process.getgid!() })
  const pidfd = peerPidfd(below().fd)
  if (pidfd === undefined) return // before Linux 6.5
  expect(pidfdIsAlive(pidfd)).toBe(true)
  closeSync(pidfd)
})

it('has the same open file, with the access that its owner has', () => {
  const path = join(folder, 'file')
  writeFileSync(path, 'content')
  const pidfd = openPidfd(process.pid)
  const O_PATH = 0o10000000
  for (const [flags, readable] of [
    [constants.O_RDONLY, true],
    [constants.O_RDWR, true],
    [constants.O_WRONLY, false],
    [O_PATH, false],
    [O_PATH | constants.O_RDWR, false],
  ] as const) {
    const theirs = openSync(path, flags)
    const ours = descriptorOf(pidfd, theirs)
    expect(isReadable(ours), flags.toString(8)).toBe(readable)
    expect(fstatSync(ours).ino).toBe(fstatSync(theirs).ino)
    if (readable) expect(readSync(ours, Buffer.alloc(10), 0, 10, 0)).toBe(7)
    closeSync(ours)
    closeSync(theirs)
  }
  expect(() => descriptorOf(pidfd, 1_000_000)).toThrow('EBADF')
  closeSync(pidfd)
})

it('knows when a process has ended', async () => {
  const child = spawn('sleep', ['60'])
  const pidfd = openPidfd(child.pid!)
  expect(pidfdIsAlive(pidfd)).toBe(true)
  child.kill('SIGKILL')
  await once(child, 'exit')
  expect(pidfdIsAlive(pidfd)).toBe(false)
  expect(() => descriptorOf(pidfd, 0)).toThrow('ESRCH')
  closeSync(pidfd)
})

it('receives what has come, and does not wait for more unless told', async () => {
  const fd = duplicate(below().fd)
  const buffer = Buffer.alloc(10)
  expect(receiveNow(fd, buffer)).toBeUndefined()
  expect(waitReadable(fd, 1)).toBe(false)
  await new Promise<void>((resolve) => client.write('hello', () => resolve()))
  expect(waitReadable(fd, 10_000)).toBe(true)
  expect(receiveNow(fd, buffer.subarray(0, 3))).toBe(3)
  expect(receiveNow(fd, buffer.subarray(3))).toBe(2)
  expect(buffer.toString('latin1', 0, 5)).toBe('hello')
  client.destroy()
  expect(waitReadable(fd, 10_000)).toBe(true)
  expect(receiveNow(fd, buffer)).toBe(0)
  closeSync(fd)
  expect(() => receiveNow(fd, buffer)).toThrow('EBADF')
})
