// Each service, and the command line, as a few files in `dist` instead of some two thousand modules
// of ours and of others: `node tools/setup/bundle.mjs`, after tsc. They start in half of the time
// (docs/decisions/0034-what-is-started-is-bundled.md).
import { globSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const APPS = ['cli', 'standalone', 'gateway', 'ingest', 'extractor', 'storage', 'runtime']
/** Threads that they start. */
const WORKERS = ['apps/extractor', 'libs/intake', 'libs/snapshots']
/** Native; or asked for by others only to see whether somebody installed it. */
const EXTERNAL = [
  'koffi',
  'msgpackr-extract',
  'pino-pretty',
  /^swagger-ui-dist/,
  /^@nestjs\/(microservices|websockets|platform-express)/,
  /^class-(validator|transformer)/,
  /^@fastify\/(view|multipart|static)/,
]

/** Does nothing if nothing is compiled, or what is there was made from all that tsc wrote. */
export async function bundle(root) {
  const folder = join(root, 'dist')
  const compiled = globSync('{apps,libs}/*/dist/**/*.js', { cwd: root }).map((file) => join(root, file))
  if (compiled.length === 0) return
  const state = `${compiled.length} ${Math.max(...[...compiled, fileURLToPath(import.meta.url)].map((file) => statSync(file).mtimeMs))}`
  if (read(join(folder, '.made-from')) === state) return
  // By a rename: tests of several packages may come here at once.
  const made = join(root, 'node_modules/.cache', `bundle-${process.pid}`)
  await write(root, made, Object.fromEntries(APPS.map((app) => [app, `apps/${app}/dist/main.js`])))
  // Each by itself, and only what it uses: schemas that nobody asks cost a thread more than all
  // else.
  for (const owner of WORKERS)
    await write(
      root,
      made,
      { [workerOf(owner)]: `${owner}/dist/worker.js` },
      { moduleSideEffects: false, manualPureFunctions: ['z'] },
    )
  writeFileSync(join(made, '.made-from'), state)
  rmSync(folder, { recursive: true, force: true })
  try {
    renameSync(made, folder)
  } catch (error) {
    // Another was quicker, with the same.
    if (error.code !== 'ENOTEMPTY') throw error
    rmSync(made, { recursive: true })
  }
}

async function write(root, dir, input, treeshake) {
  // Here, for each run of tests asks whether there is something to do.
  const { rolldown } = await import('rolldown')
  const bundled = await rolldown({
    cwd: root,
    input,
    treeshake,
    platform: 'node',
    external: EXTERNAL,
    plugins: [ownPlaces(root)],
    logLevel: 'silent',
  })
  await bundled.write({ dir, format: 'esm', entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' })
  await bundled.close()
}

function workerOf(owner) {
  return `${basename(owner)}-worker`
}

/**
 * What reads files by `import.meta.url` finds them where tsc put them, also in a checkout that was
 * moved: all files of the bundle lie in one folder. What starts a worker finds the bundled one.
 */
function ownPlaces(root) {
  return {
    name: 'own-places',
    transform: {
      filter: { id: /\/(apps|libs)\/[^/]+\/dist\//, code: 'import.meta.url' },
      handler: (code, id) => {
        const file = relative(root, id)
        const owner = WORKERS.find((one) => file.startsWith(`${one}/`))
        const placed = code.replaceAll(
          'import.meta.url',
          `new URL(${JSON.stringify(join('..', file))}, import.meta.url).href`,
        )
        if (!owner) return placed
        const bundled = join(relative(dirname(file), 'dist'), `${workerOf(owner)}.js`)
        return placed.replaceAll(/'\.{1,2}\/worker\.js'/g, JSON.stringify(bundled))
      },
    },
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await bundle(fileURLToPath(new URL('../..', import.meta.url)))
