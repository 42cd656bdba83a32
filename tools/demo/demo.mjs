// `npm run demo [-- my-image.tar]`: an archive in, its layers apart, a container out, and nothing
// left behind.
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { helloImage } from './image.mjs'
import { layerEntries } from './layers.mjs'
import { Strata } from './strata.mjs'
import { bold, cyan, dim, green, print, short, size, title, yellow } from './terminal.mjs'

const FOLDER = join(import.meta.dirname, '../../.demo')
/** A reader's image may be a server: it is shown for this long. */
const SECONDS = 10

const [given, ...more] = process.argv.slice(2)
if (more.length > 0 || given?.startsWith('-')) {
  print('usage: npm run demo [-- my-image.tar]')
  process.exit(2)
}
await mkdir(FOLDER, { recursive: true })
const strata = await Strata.in(FOLDER)
const started = performance.now()
try {
  await demo()
  print(`\n${green('✓')} ${((performance.now() - started) / 1000).toFixed(1)} s.`)
} catch (error) {
  print(strata.interrupted ? `\n${yellow('Interrupted.')}` : `\n${yellow('The demo stopped:')} ${error.message}`)
  process.exitCode = strata.interrupted ? 130 : 1
}
for (const line of await strata.clean()) {
  print(`${yellow('Left behind:')} ${line}`)
  process.exitCode ||= 1
}
print(dim('Strata is stopped: no mount, process or file of it is left outside .demo/.'))

async function demo() {
  print(bold('Strata: container images in, layers apart, containers out.'))

  title(1, given ? `Your archive: ${given}` : 'An image without a Dockerfile')
  const archive = given ? resolve(process.env.CALLER_DIR ?? '.', given) : await makeArchive()

  title(2, 'All services in one process, with a Redis of their own')
  await strata.up()

  title(3, 'The archive goes in')
  const loaded = await strata.show(['load', archive])
  const names = [...loaded.matchAll(/^Loaded image(?: ID)?: (\S+)$/gm)].map(([, name]) => name)
  if (names.length === 0) throw new Error('the archive gave no image')
  for (const name of names) await showLayers(name)

  title(5, 'A container from these layers')
  await launch(names[0])
}

async function makeArchive() {
  const bytes = await helloImage()
  const file = join(FOLDER, 'hello.tar')
  await writeFile(file, bytes)
  print('  layer 1  the tar of a tree: busybox and its programs')
  print('  layer 2  the tar of the difference to another tree: a file more, one changed, one removed')
  print('  config   what to run: /hello')
  print(`  ${dim(`as docker save writes them: .demo/hello.tar, ${size(bytes.length)}`)}`)
  return file
}

async function showLayers(name) {
  title(4, `The layers of ${name}`)
  const [image] = JSON.parse(await strata.quiet(['inspect', name]))
  print(`  image ${short(image.Id)}   manifest ${short(image.Digest)}   ${image.Os}/${image.Architecture}`)
  for (const [at, layer] of image.Layers.entries()) {
    const { Digest: digest, DiffId: diffId, ChainId: chainId, Size: bytes } = layer
    print(`\n  ${cyan(`layer ${at + 1}`)}  ${size(bytes)}`)
    print(`    digest  ${short(digest)}   ${dim('of the bytes as they came')}`)
    if (diffId !== digest) print(`    diffID  ${short(diffId)}   ${dim('of the tar inside')}`)
    print(
      `    chain   ${short(chainId)}   ${dim(at === 0 ? 'the first layer is its own chain' : 'of this layer on those below it')}`,
    )
    const entries = layerEntries(strata.data, diffId)
    if (!entries) continue
    print(`    ${entries.count} ${entries.count === 1 ? 'entry' : 'entries'}`)
    for (const line of entries.picked) print(`      ${line}`)
    if (entries.more > 0) print(`      ${dim(`… ${entries.more} more`)}`)
  }
}

async function launch(name) {
  const stop = setTimeout(() => {
    print(dim(`  It runs for ${SECONDS} s: that is enough for a demo.`))
    void strata.quiet(['stop', '-t', '2', 'demo']).catch(() => undefined)
  }, SECONDS * 1000)
  try {
    const code = await strata.container(['run', '--rm', '--name', 'demo', name])
    print(dim(`  It ended with exit code ${code}.`))
    if (!given && code !== 0) throw new Error(`the container ended with ${code}`)
    if (code === 125) throw new Error('it could not be launched')
  } finally {
    clearTimeout(stop)
  }
}
