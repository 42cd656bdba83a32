import { writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { describe } from '../archive.mjs'
import { memory, Peaks } from '../peaks.mjs'
import { run } from '../processes.mjs'
import { median, table } from '../report.mjs'
import { Strata } from '../sides/strata.mjs'

/** Bars, ms: any folder, any file's first byte in plain and in gzip layers; MiB of the gateway. */
const BARS = { folder: 20, plain: 20, gzip: 100, memory: 300 }
const FOLDERS = 1_500
const FILES = 500
/**
 * Each is asked for so often, its median counts: what else the machine does hits another one each
 * time.
 */
const PASSES = 5

/**
 * Folders of an image, all there are or as many as are enough, and the first byte of files all over
 * them, over the gateway's socket; its layers as they are, and the same ones packed by gzip.
 */
export async function benchBrowse({ workspace, file }) {
  const { image, entries } = await describe(file)
  const forms = { plain: file, gzip: await packed(workspace.part('packed'), file) }
  const rows = []
  let isFailed = false
  for (const [form, archive] of Object.entries(forms)) {
    const strata = await Strata.start(workspace, { isSeparate: true })
    await strata.load('curl', archive)
    const peaks = new Peaks()
    peaks.watch(strata.processes.gateway, 'gateway')
    const client = new Client(strata.socket)
    const at = `/v1/images/${encodeURIComponent(image)}`
    const cold = await client.time(`${at}/files?path=/`)
    const { pages, files } = await everyFolder(client, at)
    const folders = await passes(pages, async (path) => (await client.time(path)).all)
    const first = await passes(
      spread(files, FILES),
      async (path) => (await client.time(`${at}/file?path=${path}`)).first,
    )
    const begun = performance.now()
    const bytes = Number(
      await run('sh', ['-c', 'curl -sSf --unix-socket "$1" "http://strata$2/export" | wc -c', 'sh', strata.socket, at]),
    )
    const exported = bytes / 1e6 / ((performance.now() - begun) / 1000)
    const { gateway } = peaks.end()
    const missed =
      Math.max(...folders.medians) > BARS.folder || Math.max(...first.medians) > BARS[form] || gateway > BARS.memory
    isFailed ||= missed
    rows.push([
      form,
      cold.all.toFixed(1),
      figures(folders),
      figures(first),
      exported.toFixed(0),
      `${memory(strata.processes.gateway).now.toFixed(0)} / ${gateway.toFixed(0)}`,
      missed ? '**missed**' : 'kept',
    ])
    await strata.stop()
  }
  const text = [
    `${entries} entries; ms over the gateway’s socket; ${FOLDERS} pages of folders (at most 1,000 names each), and ${FILES} files all over those, each ${PASSES} times, in turns: of their medians the median / 99 % / most, and the most of all times. Bars for the most of the medians: a folder ${BARS.folder} ms, a file ${BARS.plain} ms, in gzip layers ${BARS.gzip} ms; the gateway ${BARS.memory} MiB.`,
    '',
    table(
      [
        'layers',
        'a first look, ms',
        'a folder',
        'a file’s first byte',
        'export, MB/s',
        'gateway, MiB: afterwards / peak',
        '',
      ],
      rows,
    ),
  ].join('\n')
  return { text, isFailed }
}

async function everyFolder(client, at) {
  const pages = []
  const files = []
  const folders = ['']
  for (let folder = folders.shift(); folder !== undefined && pages.length < FOLDERS; folder = folders.shift()) {
    for (let offset = 0; offset !== undefined;) {
      const path = `${at}/files?path=${folder}/&offset=${offset}`
      const page = JSON.parse((await client.time(path)).body)
      pages.push(path)
      for (const { name, nameBase64, type, size } of page.files) {
        const path = `${folder}/${encodeBytes(nameBase64 === undefined ? Buffer.from(name) : Buffer.from(nameBase64, 'base64'))}`
        if (type === 'directory') folders.push(path)
        else if (type === 'file' && size > 0) files.push(path)
      }
      offset = page.next
    }
  }
  return { pages, files }
}

class Client {
  #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor(socketPath) {
    this.socketPath = socketPath
  }

  /** Until the first byte of the body, and all of it, in ms. A file is not read to its end. */
  time(path) {
    const isFile = path.includes('/file?')
    const begun = performance.now()
    return new Promise((resolve, reject) => {
      const asked = request(
        { socketPath: this.socketPath, path, agent: isFile ? new Agent() : this.#agent },
        (answer) => {
          if (answer.statusCode !== 200) return reject(new Error(`${path}: ${answer.statusCode}`))
          const pieces = []
          let first
          answer.on('data', (piece) => {
            first ??= performance.now() - begun
            if (isFile) {
              answer.destroy()
              resolve({ first })
            }
            pieces.push(piece)
          })
          answer.on('end', () =>
            resolve({ first, all: performance.now() - begun, body: Buffer.concat(pieces).toString() }),
          )
          answer.on('error', reject)
        },
      )
      asked.on('error', reject)
      asked.end()
    })
  }
}

/** The same image with gzip layers, as registries give them. */
async function packed(folder, file) {
  const [item] = JSON.parse(await run('tar', ['-xOf', file, 'manifest.json']))
  const layers = []
  for (const [number, layer] of item.Layers.entries()) {
    const name = `${number}.tar.gz`
    await run('sh', ['-c', 'tar -xOf "$1" "$2" | gzip -n6 >"$3"', 'sh', file, layer, join(folder, name)])
    layers.push(name)
  }
  await run('tar', ['-xf', file, '-C', folder, item.Config])
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify([{ ...item, Layers: layers }]))
  const archive = join(folder, 'packed.tar')
  await run('tar', ['-cf', archive, '-C', folder, ...layers, item.Config, 'manifest.json'])
  return archive
}

function encodeBytes(bytes) {
  return [...bytes]
    .map((byte) =>
      /[A-Za-z0-9._-]/.test(String.fromCharCode(byte))
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).padStart(2, '0')}`,
    )
    .join('')
}

/** `count` of them, from the first to the last. */
function spread(list, count) {
  return list.length <= count
    ? list
    : Array.from({ length: count }, (_, at) => list[Math.floor((at * list.length) / count)])
}

async function passes(paths, time) {
  const times = paths.map(() => [])
  for (let pass = 0; pass < PASSES; pass++) for (const [at, path] of paths.entries()) times[at].push(await time(path))
  return { medians: times.map(median), most: Math.max(...times.flat()) }
}

function figures({ medians, most }) {
  const sorted = [...medians].sort((a, b) => a - b)
  const of = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(1)
  return `${of(0.5)} / ${of(0.99)} / ${sorted.at(-1).toFixed(1)}, ${most.toFixed(1)}`
}
