// All tests of all packages: `npm test`. The last line is the totals.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { missingPackages } from '../setup/system-packages.mjs'
import { leftovers, newLeftovers } from './leftovers.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
// Short: unix sockets lie below it, and their paths have 107 bytes.
const folder = mkdtempSync('/tmp/strata-')
/** What is of services that run apart only: their tests run once, with the others of that kind. */
const APART = 'src/apart/**'
/** Packages whose root tests start services. */
const OF_SERVICES = ['tools/e2e', 'tools/faults']
/** Packages whose root tests start S3 servers. */
const ON_S3 = ['apps/extractor', 'libs/intake', 'libs/store']
/** Has a store of each kind of its own: in a lane that is short. */
const COLLECTION = 'src/collection.root.spec.ts'
/** The fault tests that take their time whatever goes on beside them: at the end of their lane. */
const SOAK = ['src/soak.root.spec.ts', 'src/registry-soak.root.spec.ts']
const TWO_AT_A_TIME = ['--fileParallelism', '--maxWorkers=2']
/**
 * As processes of their own, on MinIO, services are asked all that such a deployment changes: how
 * images come in and containers go out, what crosses from one service to another, and whatever
 * dies. In one process, over a store in a folder, they are asked everything. `STRATA_TEST_LONG=1`
 * asks everything of both, and fuzzes longer. Specs leave rows out in the same way (`asksAll` in
 * tools/e2e/src/testing/topology.ts, `triesAll` in tools/faults/src/testing/each-store.ts).
 */
const AS_PROCESSES = [
  'bad-input',
  'containers',
  'crash',
  'doors',
  'drivers',
  'jobs',
  'layers',
  'load',
  'nodes',
  'outages',
  'run',
  'save',
].map((name) => `src/${name}.root.spec.ts`)
const isLong = process.env.STRATA_TEST_LONG === '1'
const total = { passed: 0, failed: [], skipped: [], specs: [] }
const SLOWEST = 10
let interrupted = false
const running = new Set()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    interrupted = true
    for (const child of running) child.kill(signal)
  })
}

const packages = globSync('{libs,apps,tools}/*/package.json', { cwd: ROOT }).map(dirname).sort()
const before = leftovers(folder)
const why = whyNoRootTests()
const programsBuilt = why ? undefined : run([join(ROOT, 'tools/setup/go-programs.mjs')], ROOT)
await Promise.all([rootTestsOfLibraries(), pureTests().then(rootTestsOfServices)])
await checkLeftovers()
rmSync(folder, { recursive: true, force: true })
process.exitCode = summary()

/**
 * Nx runs them and remembers those whose inputs are unchanged; their results are among what it
 * brings back.
 */
async function pureTests() {
  const tested = packages.filter(
    (name) => JSON.parse(readFileSync(join(ROOT, name, 'package.json'), 'utf8')).scripts?.test,
  )
  for (const name of tested) rmSync(resultFile(name, 'pure'), { force: true })
  const ok = await run(['node_modules/nx/dist/bin/nx.js', 'run-many', '-t', 'test', '--output-style=static'], ROOT)
  for (const name of tested) collect(name, 'pure')
  if (!ok && total.failed.length === 0) fail('nx failed, though no test did')
}

/** One package after the other: they share the machine’s mounts, loop devices and cgroups. */
async function rootTestsOfLibraries() {
  const tested = packages.filter((name) => globSync('src/**/*.root.spec.ts', { cwd: join(ROOT, name) }).length > 0)
  if (why)
    return total.skipped.push(
      ...tested.flatMap((name) =>
        globSync('src/**/*.root.spec.ts', { cwd: join(ROOT, name) }).map((spec) => ({
          name: `${name}/${spec}`,
          reason: why,
        })),
      ),
    )
  for (const name of tested)
    if (!ON_S3.includes(name) && !OF_SERVICES.includes(name)) await rootTestsOf(name, { lane: 'root' })
}

/** Beside each other, for these tests mostly wait; each has services, Redis and node of its own. */
async function rootTestsOfServices() {
  if (why) return
  await programsBuilt
  print(
    '\n> one: all services in one process | apart: every service its own process | s3: what starts S3 servers | faults: what breaks, and soak: again and again\n',
  )
  const inOne = rootTestsOf('tools/e2e', {
    lane: 'one',
    filters: [...TWO_AT_A_TIME, '--exclude', APART, '--exclude', COLLECTION],
  })
  await Promise.all([inOne, testsOfProcesses(), testsOnS3(), testsOfFaults()])
}

async function testsOnS3() {
  for (const name of ON_S3) await rootTestsOf(name, { lane: 's3' })
}

async function testsOfFaults() {
  await rootTestsOf('tools/faults', {
    lane: 'faults',
    filters: [...TWO_AT_A_TIME, ...SOAK.flatMap((spec) => ['--exclude', spec])],
  })
  await rootTestsOf('tools/faults', { lane: 'soak', filters: [...TWO_AT_A_TIME, ...SOAK] })
  await rootTestsOf('tools/e2e', { lane: 'soak', filters: [COLLECTION] })
}

async function rootTestsOf(name, { lane, filters = [], env = {} } = {}) {
  if (interrupted) return
  print(`\n> root tests of ${name}\n`)
  const kind = `root-${lane}`
  rmSync(resultFile(name, kind), { force: true })
  await run([join(ROOT, 'tools/test/run.mjs'), kind, ...filters], join(ROOT, name), { lane, env })
  collect(name, kind)
}

/** As Strata is deployed: every service a process of its own, on one MinIO for all tests. */
async function testsOfProcesses() {
  if (interrupted) return
  const { TestS3, whyNoTestS3 } = await import(join(ROOT, 'libs/store/dist/testing/index.js'))
  const noS3 = whyNoTestS3('minio')
  if (noS3) return total.skipped.push({ name: 'tools/e2e, every service its own process', reason: noS3 })
  const s3 = await TestS3.start('minio', '/var/tmp')
  try {
    await rootTestsOf('tools/e2e', {
      lane: 'apart',
      filters: [...TWO_AT_A_TIME, ...(isLong ? [] : ['src/apart/', ...AS_PROCESSES])],
      env: { STRATA_TEST_TOPOLOGY: 'processes', STRATA_TEST_S3: s3.url },
    })
  } finally {
    await s3.remove()
  }
}

function whyNoRootTests() {
  if (process.platform !== 'linux') return 'it needs Linux'
  if (process.getuid() !== 0) return 'it needs root'
  const missing = missingPackages().map(({ command }) => command)
  return missing.length > 0 ? `it needs ${missing.join(', ')}` : undefined
}

async function checkLeftovers() {
  for (const line of await newLeftovers(before, folder)) fail(`left behind by the tests: ${line}`)
}

function summary() {
  const { passed, failed, skipped, specs } = total
  print(`\nthe ${SLOWEST} slowest specs:`)
  for (const { file, ms } of specs.sort((a, b) => b.ms - a.ms).slice(0, SLOWEST))
    print(`${(ms / 1000).toFixed(1).padStart(7)} s  ${file}`)
  for (const { name, reason } of skipped) print(`skipped: ${name}: ${reason}`)
  if (!process.env.STRATA_TEST_DOCKER)
    print(
      'not run: what a newer docker makes of archives that Strata writes: STRATA_TEST_DOCKER names no folder with its docker and dockerd',
    )
  if (!existsSync(join(ROOT, '.tools/bin/registry')))
    print('not run: pulls from distribution 3: node tools/setup/go-programs.mjs registry builds it')
  const strict = process.env.CI === 'true' && skipped.length > 0
  if (strict) print('CI=true: a test that is skipped is a failure.')
  if (interrupted) print('interrupted')
  for (const sentence of failed) print(`failed: ${sentence}`)
  print(`${passed} passed, ${failed.length} failed${skipped.length > 0 ? `, ${skipped.length} skipped` : ''}`)
  return failed.length > 0 || strict || interrupted || passed === 0 ? 1 : 0
}

function collect(name, kind) {
  const file = resultFile(name, kind)
  if (!existsSync(file)) return interrupted ? undefined : fail(`the ${kind} tests of ${name} came to no result`)
  const { passed, failed, skipped, specs } = JSON.parse(readFileSync(file, 'utf8'))
  total.passed += passed
  const lane = kind.replace(/^root-/, '')
  total.failed.push(...failed.map((sentence) => `${lane} | ${name}/${sentence}`))
  total.skipped.push(...skipped.map((test) => ({ ...test, name: `${name}: ${test.name}` })))
  total.specs.push(...specs.map((spec) => ({ ...spec, file: `${name}/${spec.file} (${lane})` })))
}

function resultFile(name, kind) {
  return join(ROOT, name, `.test-results/${kind}.json`)
}

function fail(sentence) {
  total.failed.push(sentence)
  print(`failed: ${sentence}`)
}

function print(line) {
  process.stdout.write(`${line}\n`)
}

/** A script on this Node; true if it ended well. What several say at once carries their names. */
async function run(args, cwd, { lane, env = {} } = {}) {
  const child = spawn(process.execPath, args, {
    cwd,
    stdio: ['ignore', lane === undefined ? 'inherit' : 'pipe', 'inherit'],
    env: { ...process.env, TMPDIR: folder, NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/compile'), ...env },
  })
  running.add(child)
  if (child.stdout) createInterface({ input: child.stdout }).on('line', (line) => print(`${lane.padEnd(6)} | ${line}`))
  const [code] = await once(child, 'close')
  running.delete(child)
  return code === 0
}
