// `npm run soak -- --minutes 60`, `npm run faults -- --minutes 60` and
// `npm run soak-registry -- --minutes 60 [--seed N]`, each on both stores one after the other
// unless `--store folder|minio` names one: the long form of the tests in soak.root.spec.ts and
// registry-soak.root.spec.ts. The last lines are a table of what was done and how long it took to
// be right.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build } from '../setup/steps.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const TESTS = {
  soak: ['src/soak.root.spec.ts', 'eight clients'],
  faults: ['src/soak.root.spec.ts', 'die at random moments'],
  'soak-registry': ['src/registry-soak.root.spec.ts', 'eight clients'],
}

const [kind, ...rest] = process.argv.slice(2)
const { values } = parseArgs({
  args: rest,
  options: { minutes: { type: 'string', default: '60' }, store: { type: 'string' }, seed: { type: 'string' } },
})
if (
  !Object.hasOwn(TESTS, kind ?? '') ||
  !(Number(values.minutes) > 0) ||
  (values.store !== undefined && !['folder', 'minio'].includes(values.store)) ||
  (values.seed !== undefined && (kind !== 'soak-registry' || !/^\d{1,10}$/.test(values.seed)))
) {
  process.stderr.write(
    'usage: npm run soak|faults -- [--minutes N] [--store folder|minio]\n       npm run soak-registry -- [--minutes N] [--store folder|minio] [--seed N]\n',
  )
  process.exit(2)
}
if (process.getuid() !== 0) {
  process.stderr.write('Mounts and containers need root.\n')
  process.exit(2)
}

build(ROOT)

const folder = mkdtempSync(join(tmpdir(), 'strata-'))
const results = join(folder, 'results')
const [spec, test] = TESTS[kind]
const vitest = [
  join(ROOT, 'node_modules/vitest/vitest.mjs'),
  'run',
  '--root',
  '.',
  '--config',
  join(ROOT, 'vitest.config.ts'),
  spec,
  '-t',
  `on ${values.store ?? ''}.*${test}`,
]
const child = spawn(join(ROOT, 'node_modules/.bin/node'), vitest, {
  cwd: join(ROOT, 'tools/faults'),
  stdio: 'inherit',
  env: {
    ...process.env,
    STRATA_TEST_KIND: 'root',
    STRATA_SOAK_MINUTES: values.minutes,
    ...(values.seed === undefined ? {} : { STRATA_SOAK_SEED: values.seed }),
    STRATA_FAULT_MINUTES: values.minutes,
    STRATA_FAULT_RESULTS: results,
    NODE_COMPILE_CACHE: join(ROOT, 'node_modules/.cache/compile'),
  },
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('exit', (code) => {
  const rows = existsSync(results)
    ? readFileSync(results, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
    : []
  rmSync(folder, { recursive: true, force: true })
  const counts = (record) =>
    Object.entries(record)
      .map(([what, count]) => `${count} ${what}`)
      .join(', ')
  process.stdout.write('\n| store | minutes | done | killed | right after |\n| --- | --- | --- | --- | --- |\n')
  for (const { store, minutes, done, deaths, healed } of rows) {
    process.stdout.write(
      `| ${store} | ${minutes} | ${counts(done)} | ${counts(deaths ?? {}) || '–'} | ${Object.entries(healed ?? {})
        .map(([what, seconds]) => `${what} ${seconds.toFixed(1)} s`)
        .join(', ')} |\n`,
    )
  }
  process.stdout.write(code === 0 ? 'nothing lost, nothing doubled, nothing left over\n' : 'FAILED: see above\n')
  process.exit(code ?? 1)
})
