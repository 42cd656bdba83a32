#!/usr/bin/env node
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { benchBrowse } from './benches/browse.mjs'
import { benchLoad, LOAD_PEERS, WAYS } from './benches/load.mjs'
import { benchMemory } from './benches/memory.mjs'
import { benchPacked } from './benches/packed.mjs'
import { benchRun, RUN_PEERS } from './benches/run.mjs'
import { benchRegistry } from './benches/registry.mjs'
import { benchSave } from './benches/save.mjs'
import { Interrupted } from './processes.mjs'
import { machine, publish } from './report.mjs'
import { Workspace } from './workspace.mjs'

const USAGE = `Strata beside its peers, in one run on this machine. As root. Prints a table, and writes it into docs/performance.md, its plot into docs/plots/.

  bench load FILE       an archive in, until its image's root is mounted and a file of each layer was read
  bench packed FILE     the same with its layers packed, as registries give them, beside umoci
  bench save FILE       the image out again, into a file
  bench run FILE        \`run --rm IMAGE true\`, the whole command
  bench memory FILE     what two loads and a launch at once take, in one process and in five
  bench browse FILE     an image's folders, and files all over it, in plain and in gzip layers; its export
  bench blobs [FILE]    a stream into the store and out of it, on the disk and in memory, beside a bare presigned
                        upload and download; with FILE also its load into MinIO beside the same bytes up and down
  bench listing         a page of a folder store's list among 100 to --count names, and what a write costs
  bench registry        blobs pushed and pulled, manifests and heads beside --count tags, beside CNCF distribution
  bench flat            each request in a store with --count repositories, --count tags in one more and ten times
                        as many blobs, beside one with next to nothing; a collection there; exits 1 above 1.5 ×
  bench churn           small images loaded and removed: what stays; exits 1 if it grows

  --rounds N            5 for load, packed, save, blobs and registry, 20 for run, 3 for memory, 50 for listing, 200 for flat
  --count N             2000 for churn, 100000 for listing, registry and flat (on MinIO 10000)
  --minio               blobs in MinIO, not in a folder (memory, churn, registry, flat): a result of its own
  --peers a,b           of ${LOAD_PEERS.join(', ')}: all that are found
  --ways a,b            of ${WAYS.join(', ')}: all (load)
  --folder DIR          where everything is kept while it runs, on a real disk (/var/tmp/strata-bench)
  --no-write            print only
`
const BENCHES = {
  load: benchLoad,
  run: benchRun,
  memory: benchMemory,
  packed: benchPacked,
  save: benchSave,
  browse: benchBrowse,
  blobs: imported('benchBlobs', 'blobs'),
  listing: imported('benchListing', 'listing'),
  churn: imported('benchChurn', 'churn'),
  flat: imported('benchFlat', 'flat'),
  registry: benchRegistry,
}
const WITHOUT_FILE = ['churn', 'blobs', 'listing', 'registry', 'flat']

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' },
    count: { type: 'string' },
    minio: { type: 'boolean', default: false },
    peers: { type: 'string' },
    ways: { type: 'string' },
    folder: { type: 'string', default: '/var/tmp/strata-bench' },
    'no-write': { type: 'boolean', default: false },
    help: { type: 'boolean' },
  },
})
const [name, file] = positionals
if (values.help || !Object.hasOwn(BENCHES, name ?? '')) refuse(USAGE, values.help ? 0 : 1)
if (!existsSync(join(import.meta.dirname, '../../dist/standalone.js')))
  refuse('Not built yet: run `npm test` or `npm run build` first.\n')
if (process.getuid() !== 0) refuse('Mounts and containers need root.\n')
if ((file !== undefined || !WITHOUT_FILE.includes(name)) && (file === undefined || !existsSync(file)))
  refuse(
    `${file ?? 'FILE'} is not there: node tools/bench/make-image.mjs /var/tmp/strata-bench/debian.tar makes one.\n`,
  )

const list = (text, known) => {
  const names = text?.split(',').filter(Boolean)
  const unknown = names?.find((each) => !known.includes(each))
  if (unknown !== undefined) refuse(`${unknown} is none of ${known.join(', ')}\n`)
  return names && { names }
}
const peers = list(values.peers, name === 'run' ? RUN_PEERS : LOAD_PEERS)?.names
const ways = list(values.ways, WAYS)?.names
const [rounds, count] = [values.rounds, values.count].map((text) => (text === undefined ? undefined : Number(text)))
const workspace = Workspace.create(resolve(values.folder))
const where = machine(workspace.folder)
try {
  const result = await BENCHES[name]({
    workspace,
    ...(file && { file: resolve(file) }),
    onMinio: values.minio,
    ...(rounds && { rounds }),
    ...(count && { count }),
    ...(peers && { peers }),
    ...(ways && { ways }),
  })
  publish(values.minio ? `${name}-minio` : name, { ...result, machine: where }, !values['no-write'])
  process.exitCode = result.isFailed ? 1 : 0
} catch (error) {
  process.stderr.write(error instanceof Interrupted ? 'interrupted\n' : `${error.stack}\n`)
  process.exitCode = 1
} finally {
  workspace.remove()
}
process.exit()

/** Of a bench that uses the checkout's own packages, which are there only when they are built. */
function imported(bench, name) {
  return async (options) => (await import(`./benches/${name}.mjs`))[bench](options)
}

function refuse(text, code = 1) {
  ;(code === 0 ? process.stdout : process.stderr).write(text)
  process.exit(code)
}
