import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { join } from 'node:path'
import { mount, umount } from '@strata/linux'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Containers } from '../containers.js'
import { World } from '../testing/world.js'

let world: World
beforeAll(async () => {
  world = await World.make({
    logLimits: { maxBytes: 2 ** 18, generations: 3, heldBytes: 2 ** 30, unattendedBytes: 2 ** 30 },
  })
})
afterAll(async () => {
  expect(await world.end()).toEqual([])
})

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

it('100 MB of random bytes arrive byte for byte at a reader that pauses, over many rotations', async () => {
  const bytes = randomBytes(100_000_000)
  await world.useRoot((root) => writeFile(join(root, 'random'), bytes))
  const id = await world.claim(['cat', '/random'], {}, { attached: true })
  const hash = createHash('sha256')
  let size = 0
  let paused = false
  const reading = (async () => {
    for await (const chunk of world.containers.logs(id, { follow: true, foreground: true })) {
      hash.update(chunk.bytes)
      size += chunk.bytes.length
      if (!paused) {
        paused = true
        // Until the container has written all of it: nothing may be dropped meanwhile.
        await world.containers.wait(id)
      }
    }
  })()
  await world.containers.launch(id)
  await reading
  expect(size).toBe(bytes.length)
  expect(hash.digest('hex')).toBe(sha(bytes))
  expect((await readdir(join(world.options.folder, id, 'log'))).length).toBeGreaterThan(3)
  await world.containers.remove(id)
})

it('without a foreground reader only the newest generations are kept, with no gap in them', async () => {
  const id = await world.start([
    'sh',
    '-c',
    'i=0; while [ $i -lt 12 ]; do seq 20000; i=$((i+1)); sleep 0.02; done; echo end',
  ])
  await world.containers.wait(id)
  const names = await readdir(join(world.options.folder, id, 'log'))
  expect(names.length).toBeLessThanOrEqual(4)
  const lines = (await world.output(id)).toString().trimEnd().split('\n')
  expect(lines.pop()).toBe('end')
  lines.shift()
  for (let i = 1; i < lines.length; i++) expect(Number(lines[i])).toBe((Number(lines[i - 1]) % 20000) + 1)
  expect((await world.output(id, { tail: 2 })).toString()).toBe('20000\nend\n')
  await world.containers.remove(id)
})

it('is kept in its bounds over starts that are too short to be looked at, and loses none of the last one', async () => {
  const limits = { maxBytes: 2 ** 16, generations: 2, heldBytes: 2 ** 30, unattendedBytes: 2 ** 17 }
  const own = await World.make({ logLimits: limits })
  try {
    const id = await own.create(['sh', '-c', 'echo begin; seq 100000 101999; echo end'])
    for (const number of [1, 2, 3, 4, 5]) {
      await own.containers.launch(id, { start: { number, job: `start ${number}`, attached: false } })
      await own.containers.wait(id)
    }
    const lines = (await own.output(id, { foreground: true, follow: true })).toString().trimEnd().split('\n')
    expect([lines.length, lines[0], lines.at(-1)]).toEqual([2002, 'begin', 'end'])
    const log = join(own.options.folder, id, 'log')
    expect(readdirSync(log).length).toBeLessThanOrEqual(2)
    await own.containers.remove(id)
  } finally {
    expect(await own.end()).toEqual([])
  }
})

it('a record that was cut off is not joined to the first one of the next start', async () => {
  const id = await world.create(['echo', 'whole'])
  writeFileSync(join(world.options.folder, id, 'log', 'current'), '2026-11-23T15:11:48.347477249+00:00 stdout F pa')
  await world.containers.launch(id, { start: { number: 1, job: 'start', attached: false } })
  await world.containers.wait(id)
  expect((await world.output(id)).toString()).toBe('whole\n')
  expect((await world.output(id, { foreground: true })).toString()).toBe('whole\n')
  await world.containers.remove(id)
})

it('grows to its bound while no service runs; the container goes on, and the next service says what is lost', async () => {
  const warnings: string[] = []
  const logLimits = { maxBytes: 2 ** 18, generations: 3, heldBytes: 2 ** 30, unattendedBytes: 2 ** 20 }
  const own = await World.make({ logLimits, warn: (message) => warnings.push(message) })
  try {
    const id = await own.start([
      'sh',
      '-c',
      'while [ ! -e /go ]; do sleep 0.02; done; seq 100000 199999; touch /done; while [ ! -e /on ]; do sleep 0.02; done; seq 200000 200099; exit 9',
    ])
    const upper = join(own.folder, 'roots', id, 'merged')
    const log = join(own.options.folder, id, 'log')
    await own.containers.close()
    const monitor = execFileSync('pgrep', ['-f', `^conmon .*--cid ${id}`])
      .toString()
      .trim()
    const bytesRead = (): number => Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${monitor}/io`, 'utf8'))?.[1])
    const before = bytesRead()
    writeFileSync(join(upper, 'go'), '')
    // More than its log takes: its output is drained all the same, or it would not come to an end.
    await expect.poll(() => existsSync(join(upper, 'done'))).toBe(true)
    // 100,000 lines of 7 bytes. The last of them are in the pipe for a while.
    await expect.poll(() => bytesRead() - before).toBeGreaterThanOrEqual(700_000)
    expect(readdirSync(log)).toEqual(['current'])
    expect(statSync(join(log, 'current')).size).toBe(2 ** 20)

    own.containers = await Containers.open(own.options)
    await expect
      .poll(() => warnings)
      .toEqual([
        expect.stringMatching(
          /^the log of a container was full: what it wrote after \d{4}-.* and before \d{4}-.* is not in /,
        ) as string,
      ])
    // Until conmon has opened its new file, its output is lost.
    await expect.poll(() => readdirSync(log)).toContain('current')
    writeFileSync(join(upper, 'on'), '')
    expect(await own.containers.wait(id)).toEqual({ code: 9 })
    const lines = (await own.output(id)).toString().trimEnd().split('\n').map(Number)
    const kept = lines.findIndex((line) => line === 200_000)
    expect(kept).toBeGreaterThan(10_000)
    expect(lines.every((line, n) => line === (n < kept ? 100_000 + n : 200_000 + n - kept))).toBe(true)
    expect(lines.slice(kept)).toHaveLength(100)
    // It has no limit itself, and does not ignore the signal that tells of one.
    const { stdout } = await own.run([
      'sh',
      '-c',
      'dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null && stat -c %s /big; grep SigIgn /proc/self/status',
    ])
    const [, size, ignored] = /^(\d+)\nSigIgn:\s+([0-9a-f]+)\n$/.exec(stdout) ?? []
    expect(size).toBe(String(3 * 2 ** 20))
    expect(BigInt(`0x${ignored}`) & (1n << BigInt(constants.signals.SIGXFSZ - 1))).toBe(0n)
    await own.containers.remove(id)
    expect(warnings.splice(0)).toHaveLength(1)
  } finally {
    expect(await own.end()).toEqual([])
  }
})

it('a container goes on where its full log cannot be followed by a new one: its disk takes no further file', async () => {
  const disk = mkdtempSync('/var/tmp/strata-log-disk-')
  mount('tmpfs', disk, 'tmpfs', 0, 'size=64m,nr_inodes=100')
  const warnings: string[] = []
  const logLimits = { maxBytes: 2 ** 16, generations: 100, heldBytes: 2 ** 30, unattendedBytes: 2 ** 30 }
  const own = await World.make({
    folder: join(disk, 'containers'),
    logLimits,
    warn: (message) => warnings.push(message),
  })
  try {
    const id = await own.start([
      'sh',
      '-c',
      'while [ ! -e /go ]; do sleep 0.02; done; seq 100000 129999; while [ ! -e /on ]; do sleep 0.02; done; seq 130000 130099; exit 9',
    ])
    const upper = join(own.folder, 'roots', id, 'merged')
    const log = join(own.options.folder, id, 'log')
    const files = fill(disk)
    writeFileSync(join(upper, 'go'), '')
    await expect.poll(() => warnings).toHaveLength(1)
    expect(warnings[0]).toMatch(/^the log in .* stays in one file until there is room: no space left/)
    for (const path of files) unlinkSync(path)
    await expect.poll(() => readdirSync(log)).toContain('0')
    writeFileSync(join(upper, 'on'), '')
    expect(await own.containers.wait(id)).toEqual({ code: 9 })
    const lines = (await own.output(id)).toString().trimEnd().split('\n').map(Number)
    expect(lines).toEqual(Array.from({ length: 30_100 }, (_, n) => 100_000 + n))
    expect(warnings).toHaveLength(1)
    await own.containers.remove(id)
  } finally {
    for (const name of readdirSync(disk).filter((name) => name.startsWith('file-'))) unlinkSync(join(disk, name))
    expect(await own.end()).toEqual([])
    umount(disk)
    rmdirSync(disk)
  }
})

/** Makes files until the disk takes no further one. */
function fill(disk: string): string[] {
  const made: string[] = []
  for (;;) {
    const path = join(disk, `file-${made.length}`)
    try {
      writeFileSync(path, '')
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
      return made
    }
    made.push(path)
  }
}
