import { createHash, randomBytes, randomInt } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mkfifo } from '@strata/linux'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ContainerLog } from './container-log.js'
import { LogParser } from './parser.js'
import { readLog } from './reader.js'
import { LOG_LIMITS, type LogChunk, type LogOptions } from './types.js'

const TIME = '2026-11-23T15:11:48.347477249+00:00'
const record = (stream: 1 | 2, tag: 'F' | 'P', text: string | Buffer): Buffer =>
  Buffer.concat([
    Buffer.from(`${TIME} ${stream === 1 ? 'stdout' : 'stderr'} ${tag} `),
    Buffer.from(text),
    Buffer.from('\n'),
  ])

/** As conmon: pieces of at most 8,192 bytes, each line's end an `F`, what has none (yet) a `P`. */
function asConmon(bytes: Buffer, stream: 1 | 2 = 1): Buffer {
  const out: Buffer[] = []
  for (let read = 0; read < bytes.length; read += 8192) {
    const piece = bytes.subarray(read, read + 8192)
    for (let at = 0; at < piece.length;) {
      const newline = piece.indexOf(10, at)
      out.push(newline < 0 ? record(stream, 'P', piece.subarray(at)) : record(stream, 'F', piece.subarray(at, newline)))
      at = newline < 0 ? piece.length : newline + 1
    }
  }
  return Buffer.concat(out)
}

function parse(log: Buffer, sizes: () => number): LogChunk[] {
  const parser = new LogParser()
  const chunks: LogChunk[] = []
  for (let at = 0; at < log.length;) {
    const length = log.copy(parser.buffer(), 0, at, Math.min(log.length, at + sizes()))
    chunks.push(...parser.take(length))
    at += length
  }
  return chunks
}

describe('the parser', () => {
  it('gives back any bytes, however they are cut', () => {
    for (const cut of [1, 7, 4096, 1_000_000]) {
      const bytes = randomBytes(cut === 1 ? 20_000 : 300_000)
      expect(
        Buffer.concat(parse(asConmon(bytes), () => randomInt(1, cut + 1)).map((chunk) => chunk.bytes)).equals(bytes),
      ).toBe(true)
    }
  })

  it('tells streams and times, in order', () => {
    const log = Buffer.concat([record(1, 'F', 'a'), record(1, 'P', 'b'), record(2, 'F', ''), record(1, 'F', 'c')])
    expect(parse(log, () => 1000).map(({ stream, bytes, time }) => [stream, bytes.toString(), time])).toEqual([
      [1, 'a\nb', TIME],
      [2, '\n', TIME],
      [1, 'c\n', TIME],
    ])
  })

  it('passes over a torn record', () => {
    expect(
      parse(Buffer.concat([Buffer.from('2026-11-23T15:1\n\n \0\0\n'), record(1, 'F', 'a')]), () => 1000).map((chunk) =>
        chunk.bytes.toString(),
      ),
    ).toEqual(['a\n'])
  })
})

describe('the reader', () => {
  let folder: string
  let ended: boolean
  let wakes: Set<() => void>
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'strata-log-'))
    ended = false
    wakes = new Set()
  })
  afterEach(() => rmSync(folder, { recursive: true }))
  const end = (): void => {
    ended = true
    for (const wake of wakes) wake()
  }
  const read = (options: LogOptions) =>
    readLog({ folder, ended: () => ended, onEnd: (wake) => (wakes.add(wake), () => wakes.delete(wake)) }, options)
  const all = async (options: LogOptions): Promise<string> => {
    let text = ''
    for await (const chunk of read(options)) text += chunk.bytes.toString('latin1')
    return text
  }
  const write = (name: string, ...texts: string[]): void =>
    writeFileSync(join(folder, name), Buffer.concat(texts.map((text) => record(1, 'F', text))))

  it('reads generations in order', async () => {
    write('9', 'a')
    write('10', 'b', 'c')
    write('current', 'd')
    expect(await all({})).toBe('a\nb\nc\nd\n')
  })

  it.each([
    [0, ''],
    [1, 'd\n'],
    [2, 'c\nd\n'],
    [3, 'b\nc\nd\n'],
    [4, 'a\nb\nc\nd\n'],
    [99, 'a\nb\nc\nd\n'],
  ])('the last %i lines, across generations', async (tail, text) => {
    write('0', 'a')
    write('1', 'b', 'c')
    write('current', 'd')
    expect(await all({ tail })).toBe(text)
  })

  it('the last lines of long ones, and of one stream', async () => {
    const lines = Array.from({ length: 300 }, (_, i) => String(i).padEnd(i * 100, 'x'))
    writeFileSync(
      join(folder, 'current'),
      Buffer.concat(lines.flatMap((line, i) => [asConmon(Buffer.from(`${line}\n`)), record(2, 'F', `e${i}`)])),
    )
    for (const tail of [1, 10, 150, 299])
      expect(await all({ tail, stream: 1 })).toBe(
        lines
          .slice(-tail)
          .map((line) => `${line}\n`)
          .join(''),
      )
    expect(await all({ tail: 2, stream: 2 })).toBe('e298\ne299\n')
  })

  it('follows: before there is a file, while it grows, over rotations, to the end', async () => {
    const text = all({ follow: true })
    write('current', 'a')
    appendFileSync(join(folder, 'current'), record(1, 'P', 'b'))
    renameSync(join(folder, 'current'), join(folder, '0'))
    // conmon still writes into what was renamed, until it has opened the new one.
    appendFileSync(join(folder, '0'), record(1, 'F', 'c'))
    await new Promise((resolve) => setImmediate(resolve))
    write('current', 'd')
    appendFileSync(join(folder, 'current'), record(1, 'F', 'e'))
    end()
    expect(await text).toBe('a\nbc\nd\ne\n')
  })

  it('the last lines of what the place leaves, not of what was before it', async () => {
    write('0', 'a', 'b')
    write('current', 'c')
    const from = { number: 0, offset: record(1, 'F', 'a').length }
    expect(await all({ from })).toBe('b\nc\n')
    expect(await all({ from, tail: 99 })).toBe('b\nc\n')
    expect(await all({ from, tail: 1 })).toBe('c\n')
  })

  it('ends where the output of its start did, whatever a later start has written behind that', async () => {
    write('0', 'a')
    write('current', 'b')
    const log = new ContainerLog(folder, LOG_LIMITS, () => undefined)
    const source = { start: 1, ended: () => ended, onEnd: () => () => undefined }
    for (const isRotated of [false, true]) {
      const reader = log.read(source, { follow: true })
      expect((await reader.next()).value?.bytes.toString()).toBe('a\n')
      await log.begin(2)
      ended = true
      appendFileSync(join(folder, 'current'), record(1, 'F', 'second'))
      if (isRotated) {
        renameSync(join(folder, 'current'), join(folder, '1'))
        write('current', 'third')
      }
      expect((await reader.next()).value?.bytes.toString()).toBe('b\n')
      expect((await reader.next()).done).toBe(true)
      write('current', 'b')
    }
  })

  it('a reader that is awaited is awaited for its own time, whatever was awaited before', async () => {
    const log = new ContainerLog(folder, { ...LOG_LIMITS, maxBytes: 1, generations: 2 }, () => undefined)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      log.expectReader(10_000)
      vi.advanceTimersByTime(9_000)
      log.stopKeeping()
      log.expectReader(10_000)
      vi.advanceTimersByTime(9_000)
      for (const text of ['a', 'b', 'c']) {
        write('current', text)
        await log.rotate('/nowhere')
      }
      expect(await all({})).toBe('a\nb\nc\n')
      vi.advanceTimersByTime(1_000)
      write('current', 'd')
      await log.rotate('/nowhere')
      expect(await all({})).toBe('d\n')
    } finally {
      vi.useRealTimers()
    }
  })

  it('has its monitor open a new generation once: a second command loses what came behind the first', async () => {
    const control = join(folder, 'ctl')
    mkfifo(control, 0o600)
    const fd = openSync(control, constants.O_RDWR | constants.O_NONBLOCK)
    const log = new ContainerLog(folder, { ...LOG_LIMITS, maxBytes: 1 }, () => undefined)
    const commands = (): string => {
      const bytes = Buffer.alloc(100)
      try {
        return bytes.toString('latin1', 0, readSync(fd, bytes))
      } catch {
        return ''
      }
    }
    vi.useFakeTimers({ toFake: ['performance'] })
    try {
      for (let generation = 0; generation < 2; generation++) {
        write('current', 'a')
        await log.rotate(folder)
        expect(commands()).toBe('2 0 0\n')
        vi.advanceTimersByTime(9_999)
        await log.rotate(folder)
        expect(commands()).toBe('')
      }
      vi.advanceTimersByTime(1)
      await log.rotate(folder)
      expect(commands()).toBe('2 0 0\n')
      // Another service, which knows of no command.
      const next = new ContainerLog(folder, LOG_LIMITS, () => undefined)
      await next.rotate(folder)
      expect(commands()).toBe('')
      vi.advanceTimersByTime(10_000)
      await next.rotate(folder)
      expect(commands()).toBe('2 0 0\n')
    } finally {
      vi.useRealTimers()
      closeSync(fd)
    }
  })

  it('says so when what it had not read is gone', async () => {
    write('0', 'a')
    write('current', 'b')
    const reader = read({ follow: true })
    expect((await reader.next()).value).toMatchObject({ stream: 1 })
    rmSync(join(folder, '0'))
    write('5', 'c')
    await expect(reader.next()).rejects.toMatchObject({ code: 'limit_exceeded' })
  })

  it('ends when it is aborted', async () => {
    const abort = new AbortController()
    const text = all({ follow: true, signal: abort.signal })
    abort.abort()
    expect(await text).toBe('')
  })

  it('keeps for a foreground reader what it would drop otherwise, up to a limit', async () => {
    const log = new ContainerLog(
      folder,
      { maxBytes: 1, generations: 2, heldBytes: 500, unattendedBytes: 2 ** 30 },
      () => undefined,
    )
    const source = { start: 1, ended: () => ended, onEnd: () => () => undefined }
    write('current', 'a')
    const foreground = log.read(source, { follow: true, foreground: true })
    const first = await foreground.next()
    expect(first.value?.bytes.toString()).toBe('a\n')
    for (const text of ['b', 'c', 'd']) {
      await log.rotate('/nowhere')
      write('current', text)
    }
    expect((await foreground.next()).value?.bytes.toString()).toBe('b\n')
    for (let i = 0; i < 20; i++) {
      await log.rotate('/nowhere')
      write('current', 'e')
    }
    await expect(foreground.next().then(() => foreground.next())).rejects.toMatchObject({ code: 'limit_exceeded' })
    await log.rotate('/nowhere')
    expect(await all({})).toBe('e\n')
  })

  it('does not read on while nobody takes', async () => {
    const bytes = randomBytes(3_000_000)
    writeFileSync(join(folder, 'current'), asConmon(bytes))
    end()
    const hash = createHash('sha256')
    let held = 0
    for await (const chunk of read({ follow: true })) {
      held = Math.max(held, chunk.bytes.length)
      await new Promise((resolve) => setImmediate(resolve))
      hash.update(chunk.bytes)
    }
    expect(hash.digest('hex')).toBe(createHash('sha256').update(bytes).digest('hex'))
    expect(held).toBeLessThan(300_000)
  })
})
