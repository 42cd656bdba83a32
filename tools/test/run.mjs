// `node ../../tools/test/run.mjs pure|root|compose` in a package: its tests of that kind, the
// result in .test-results/<kind>.json. `root-NAME`: of several runs of the root tests the one of
// that name.
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundle } from '../setup/bundle.mjs'

const [kind, ...filters] = process.argv.slice(2)
if (!/^(pure|root(-\w+)?|compose)$/.test(kind ?? '')) {
  process.stderr.write('usage: node tools/test/run.mjs pure|root|compose [vitest arguments]\n')
  process.exit(2)
}
const root = fileURLToPath(new URL('../..', import.meta.url))
await bundle(root)
mkdirSync('.test-results', { recursive: true })
const vitest = [
  join(root, 'node_modules/vitest/vitest.mjs'),
  'run',
  '--root',
  '.',
  '--config',
  join(root, 'vitest.config.ts'),
]
const folder = kind === 'pure' ? mkdtempSync(join(quickFolder(), 's-')) : undefined
const reporters = ['--reporter', 'default', '--reporter', join(root, 'tools/test/reporter.mjs')]
const child = spawn(join(root, 'node_modules/.bin/node'), [...vitest, ...reporters, ...filters], {
  stdio: ['ignore', 'inherit', 'inherit'],
  env: {
    ...process.env,
    ...(folder && { TMPDIR: folder }),
    NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/compile'),
    STRATA_TEST_KIND: kind.split('-')[0],
    STRATA_TEST_RESULT: join(process.cwd(), `.test-results/${kind}.json`),
  },
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('exit', (code) => process.exit(folder && !isLeftEmpty(folder) ? 1 : (code ?? 1)))

function isLeftEmpty(folder) {
  const left = readdirSync(folder)
  for (const name of left) process.stderr.write(`left behind by the tests: ${name}\n`)
  rmSync(folder, { recursive: true, force: true })
  return left.length === 0
}

/**
 * Where pure tests keep their files: in memory, where there is room. What they try does not depend
 * on a disk, and a store that syncs each record makes them wait for it most of their time.
 */
function quickFolder() {
  const TMPFS = 0x01021994
  const ROOM = 2 * 1024 ** 3
  try {
    const { type, bavail, bsize } = statfsSync('/dev/shm')
    if (type === TMPFS && bavail * bsize >= ROOM) return '/dev/shm'
  } catch {
    // This system has no such folder.
  }
  return tmpdir()
}
