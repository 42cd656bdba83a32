import { linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { FolderStore, mendTail } from '@strata/store'
import { bars } from '../plot.mjs'
import { median, table } from '../report.mjs'

const SIZES = [100, 1_000, 10_000, 100_000, 1_000_000]
const PAGE = 100
/** ext4 gives a file at most 65,000 names. */
const LINKS = 60_000
const BAR = 1.5
const AT_ONCE = 40
/** Writes are measured in the largest folder that has at most so many names. */
const WRITTEN = 100_000

/**
 * A page of 100 names at a random place of a folder with 100 to `count` names: as the store lists
 * it, with and without a change right before, and as a list that reads and sorts the whole folder.
 * Then what a write costs in a folder that nobody lists, and in one whose names are held.
 * Folders take turns.
 */
export async function benchListing({ workspace, rounds = 50, count = 100_000 }) {
  const root = join(workspace.folder, 'store')
  const sync = () => Promise.resolve()
  const [writer, store] = [
    await FolderStore.open(root, mendTail, { sync }),
    await FolderStore.open(root, mendTail, { sync }),
  ]
  const sizes = SIZES.filter((size) => size <= count)
  const times = new Map()
  const timed = async (name, work) => {
    const start = performance.now()
    await work()
    if (!times.has(name)) times.set(name, [])
    times.get(name).push(performance.now() - start)
  }
  for (const size of sizes) plant(root, prefixOf(size), size)
  const heap = new Map()
  for (const size of sizes) {
    const before = heapBytes()
    for (const name of ['first', 'second'])
      await timed(`${size} ${name}`, () => store.list(prefixOf(size), { limit: PAGE }))
    heap.set(size, heapBytes() - before)
  }
  for (let round = 0; round < rounds; round++)
    for (const size of sizes) {
      const prefix = prefixOf(size)
      const page = async () => {
        const at = Math.floor(Math.random() * (size - PAGE))
        const { objects } = await store.list(prefix, { limit: PAGE, after: `${prefix}${nameOf(at)}` })
        if (objects.length < Math.min(PAGE, size - 1 - at)) throw new Error(`a page of ${objects.length} names`)
      }
      await timed(`${size} page`, page)
      await writer.create(`${prefix}x${round}`, Buffer.from('{}'))
      await timed(`${size} changed`, page)
      if (round % 10 === 0) await timed(`${size} whole`, () => whole(join(root, 'objects', prefix)))
    }
  // Only the first has been listed.
  const written = sizes.findLast((size) => size <= WRITTEN)
  const largest = prefixOf(written)
  const plain = `${largest.slice(0, -1)}-plain/`
  plant(root, plain, written)
  for (let round = 0; round < rounds; round++)
    for (const [kind, prefix] of turned(round, [
      ['plain', plain],
      ['held', largest],
    ])) {
      const keys = Array.from({ length: AT_ONCE }, (_, n) => `${prefix}w${round}-${n}`)
      for (const key of keys) await timed(`${kind} create`, () => writer.create(key, Buffer.from('{}')))
      for (const key of keys) await timed(`${kind} delete`, () => writer.delete([key]))
      await timed(`${kind} at once`, () => Promise.all(keys.map((key) => writer.create(key, Buffer.from('{}')))))
      await writer.delete(keys)
      await store.list(largest, { limit: 1 })
    }
  await Promise.all([writer.close(), store.close()])
  return result(sizes, written, times, heap, rounds)
}

const prefixOf = (size) => `images/bench/of-${size}/_tags/`
/** As long as a digest. */
const nameOf = (n) => `v${String(n).padStart(7, '0')}`.padEnd(64, '-')
const turned = (round, [a, b]) => (round % 2 === 0 ? [a, b] : [b, a])

function plant(root, prefix, count) {
  const folder = join(root, 'objects', prefix)
  mkdirSync(folder, { recursive: true })
  for (let n = 0; n < count; n++) {
    const path = join(folder, nameOf(n))
    if (n % LINKS === 0) writeFileSync(path, '{"rev":"bench","value":{}}')
    else linkSync(join(folder, nameOf(n - (n % LINKS))), path)
  }
}

async function whole(folder) {
  const entries = await readdir(folder, { withFileTypes: true })
  return entries.map((entry) => entry.name + (entry.isDirectory() ? '/' : '')).sort()
}

/** What is in use, without what the next collection frees. */
function heapBytes() {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

function result(sizes, written, times, heap, rounds) {
  const at = (name, part) => {
    const sorted = [...times.get(name)].sort((a, b) => a - b)
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]
  }
  const ms = (value) => value.toFixed(value < 10 ? 2 : 0)
  const ratio = (size) => median(times.get(`${size} page`)) / median(times.get(`${sizes[0]} page`))
  const spread = (name) => `${ms(at(name, 0.5))} / ${ms(at(name, 0.99))}`
  const rows = sizes.map((size) => [
    size.toLocaleString('en'),
    ...['first', 'second'].map((kind) => ms(at(`${size} ${kind}`, 0.5))),
    ...['page', 'changed'].map((kind) => spread(`${size} ${kind}`)),
    ratio(size).toFixed(2),
    ms(median(times.get(`${size} whole`))),
    (Math.max(0, heap.get(size)) / 1024 / 1024).toFixed(1),
  ])
  const writes = [
    ['create', 'create'],
    [`${AT_ONCE} creates at once`, 'at once'],
    ['delete', 'delete'],
  ].map(([label, kind]) => [label, ...['plain', 'held'].map((folder) => spread(`${folder} ${kind}`))])
  const worst = Math.max(...sizes.map(ratio))
  const text = [
    `A page of ${PAGE} names at a random place of a folder, ms, median / 99 % of ${rounds}, in the page cache. The first list of a process reads the folder.`,
    '',
    table(
      [
        'names',
        'first page',
        'second',
        'page',
        'page behind a change',
        `of one among ${sizes[0]}`,
        'the folder read and sorted',
        'held names, MiB',
      ],
      rows,
    ),
    '',
    `A write in a folder of ${written.toLocaleString('en')} names, ms, median / 99 % of ${rounds * AT_ONCE} (${AT_ONCE} at once: of ${rounds}).`,
    '',
    table(['', 'that nobody lists', 'whose names are held'], writes),
    '',
    `The slowest page is ${worst.toFixed(2)} × one among ${sizes[0]} names; the bar is ${BAR}: **${worst <= BAR ? 'kept' : 'missed'}**.`,
  ].join('\n')
  const svg = bars(
    `A page of ${PAGE} names, ms: median, least and most`,
    'ms',
    sizes.map((size) => {
      const values = times.get(`${size} page`)
      const label = `among ${size.toLocaleString('en')}`
      return { label, value: median(values), least: Math.min(...values), most: Math.max(...values), isOurs: true }
    }),
  )
  return { text, isFailed: worst > BAR, plot: { title: `A page of ${PAGE} names`, svg } }
}
