import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { digestOf, type ChainId } from '@strata/oci'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ContainerRecord } from '../container.js'
import { RecordStore } from './record-store.js'

const DAY = 24 * 3600 * 1000
const START = Date.parse('2026-11-28T12:00:00Z')
const idOf = (n: number): string => n.toString(16).padStart(64, '0')

let folder: string
let now: number
let store: RecordStore
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'strata-records-'))
  now = START
  store = new RecordStore(folder, () => now)
  await store.open()
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const image = digestOf('an image')
const record = (n: number): ContainerRecord => ({
  version: 1,
  id: idOf(n),
  createdAt: new Date(START).toISOString(),
  starts: 0,
  state: { status: 'created' },
  request: {},
  image: { name: 'x', id: image, chainId: image as unknown as ChainId, config: undefined },
})
/** A service that was started anew. */
const reopened = async (): Promise<RecordStore> => {
  const next = new RecordStore(folder, () => now)
  await next.open()
  return next
}

it('a record is read as it was written: of an older release, of one that waits for a start, of one being started', async () => {
  const exited = { status: 'exited', code: 3, finishedAt: '2026-11-28T12:00:00Z' } as const
  const records: ContainerRecord[] = [
    { ...record(1), job: 'launch' },
    { ...record(2), startedApart: true, attached: false },
    { ...record(3), starts: 2, job: 'start', idle: { state: exited, starts: 1 }, output: { number: 4, offset: 7 } },
  ]
  for (const one of records) await store.save(one, { durable: false })
  expect((await new RecordStore(folder, () => now).open()).records.sort((a, b) => (a.id < b.id ? -1 : 1))).toEqual(
    records,
  )
})

describe('removed containers', () => {
  it('are remembered for three days at least, by this process and the next, and then no more', async () => {
    await store.bury(idOf(1))
    for (let day = 0; day <= 3; day++) {
      now = START + day * DAY
      // Another container is removed each day: this is when the old ones go.
      await store.bury(idOf(100 + day))
      expect([store.isRemoved(idOf(1)), (await reopened()).isRemoved(idOf(1))]).toEqual([true, true])
    }
    now = START + 4 * DAY
    await store.bury(idOf(200))
    expect([store.isRemoved(idOf(1)), (await reopened()).isRemoved(idOf(1))]).toEqual([false, false])
    expect(store.isRemoved(idOf(101))).toBe(true)
  })

  it('do not come back while their removal is not finished, however long that takes', async () => {
    await store.save(record(1), { durable: false })
    await store.bury(idOf(1))
    for (const days of [4, 8, 12]) {
      now = START + days * DAY
      const opened = await new RecordStore(folder, () => now).open()
      expect([opened.records, opened.leftovers]).toEqual([[], [idOf(1)]])
    }
    await store.drop(idOf(1))
    now = START + 16 * DAY
    expect((await reopened()).isRemoved(idOf(1))).toBe(false)
  })

  it('take no more room than those of four days, in a service that is never started anew', async () => {
    for (let n = 0; n < 100; n++) {
      now = START + n * DAY * 0.25
      await store.bury(idOf(n))
    }
    const left = readdirSync(join(folder, 'removed')).flatMap((date) => readdirSync(join(folder, 'removed', date)))
    expect(left.length).toBeLessThanOrEqual(16)
    expect(left).toContain(idOf(99))
  })

  it('are found where an older version left them, whatever else lies there', async () => {
    const old = join(folder, 'removed')
    writeFileSync(join(old, idOf(1)), '')
    utimesSync(join(old, idOf(1)), (now - DAY) / 1000, (now - DAY) / 1000)
    writeFileSync(join(old, idOf(2)), '')
    utimesSync(join(old, idOf(2)), (now - 20 * DAY) / 1000, (now - 20 * DAY) / 1000)
    mkdirSync(join(old, idOf(3)))
    symlinkSync('/nowhere', join(old, idOf(4)))
    symlinkSync('/nowhere', join(old, '2026-11-20'))
    writeFileSync(join(old, '2026-11-21'), 'x')
    writeFileSync(join(old, 'garbage'), 'x')
    mkdirSync(join(old, 'a-folder'))
    utimesSync(join(old, idOf(3)), now / 1000, now / 1000)
    const next = await reopened()
    expect([1, 2, 3].map((n) => next.isRemoved(idOf(n)))).toEqual([true, false, true])
    await next.bury(idOf(5))
    expect((await reopened()).isRemoved(idOf(5))).toBe(true)
  })

  it('do not come back with a folder that was not all removed', async () => {
    await store.save(record(1), { durable: true })
    await store.bury(idOf(1))
    expect(await new RecordStore(folder, () => now).open()).toEqual({
      records: [],
      leftovers: [idOf(1)],
      unreadable: [],
    })
  })
})

describe('containers that cannot be read', () => {
  /**
   * Returns when a change now has another time than `ctimeMs`: the kernel's clock for files has
   * ticks of 1 to 10 ms.
   */
  function clockHasMoved(ctimeMs: number): void {
    const probe = join(folder, 'probe')
    do writeFileSync(probe, '')
    while (statSync(probe).ctimeMs <= ctimeMs)
    rmSync(probe)
  }

  it('are put aside, count as removed, and the newest sixteen are kept', async () => {
    for (let n = 0; n < 20; n++) {
      mkdirSync(join(folder, idOf(n)))
      writeFileSync(join(folder, idOf(n), 'container.json'), '')
    }
    await store.save(record(20), { durable: false })
    const { records, leftovers, unreadable } = await store.open()
    expect(records).toEqual([record(20)])
    expect(leftovers).toEqual([])
    expect(unreadable.map(({ id, why }) => why === `${join(folder, id, 'container.json')} is empty`)).toEqual(
      Array.from({ length: 20 }, () => true),
    )
    for (const { id } of unreadable) {
      await store.putAside(id)
      clockHasMoved(statSync(join(folder, 'unreadable', id)).ctimeMs)
    }
    const old = await store.asideBeyond()
    expect([...old].sort()).toEqual([0, 1, 2, 3].map(idOf))
    for (const id of old) await store.dropAside(id)
    expect(readdirSync(join(folder, 'unreadable')).sort()).toEqual(Array.from({ length: 16 }, (_, n) => idOf(n + 4)))
    const next = await reopened()
    expect(unreadable.filter(({ id }) => !next.isRemoved(id))).toEqual([])
  })
})
