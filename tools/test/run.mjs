// `node ../../tools/test/run.mjs pure|root|compose` in a package: its tests of that kind, the
// result in .test-results/<kind>.json. `root-NAME`: of several runs of the root tests the one of
// that name.
import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
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
const reporters = ['--reporter', 'default', '--reporter', join(root, 'tools/test/reporter.mjs')]
const child = spawn(join(root, 'node_modules/.bin/node'), [...vitest, ...reporters, ...filters], {
  stdio: ['ignore', 'inherit', 'inherit'],
  env: {
    ...process.env,
    STRATA_TEST_KIND: kind.split('-')[0],
    STRATA_TEST_RESULT: join(process.cwd(), `.test-results/${kind}.json`),
  },
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('exit', (code) => process.exit(code ?? 1))
