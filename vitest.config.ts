import { defineConfig } from 'vitest/config'

/**
 * One configuration for every package: `pure` tests are `*.spec.ts`, `root` tests (root, the
 * kernel, Redis) are `*.root.spec.ts`, `compose` tests (Docker's engine, package registries, some
 * minutes) are `*.compose.spec.ts`, which `npm run test:compose` alone runs.
 */
const INCLUDED = {
  pure: ['src/**/*.spec.ts'],
  root: ['src/**/*.root.spec.ts'],
  compose: ['src/**/*.compose.spec.ts'],
}
const kind =
  (Object.keys(INCLUDED) as (keyof typeof INCLUDED)[]).find((name) => name === process.env['STRATA_TEST_KIND']) ??
  'pure'
const conditions = ['@strata/source']

export default defineConfig({
  resolve: { conditions },
  ssr: {
    resolve: { conditions: [...conditions, 'node', 'import', 'module', 'default'], externalConditions: conditions },
  },
  test: {
    include: INCLUDED[kind],
    exclude: ['**/node_modules/**', ...(kind === 'pure' ? [...INCLUDED.root, ...INCLUDED.compose] : [])],
    passWithNoTests: true,
    fileParallelism: kind === 'pure',
    testTimeout: kind === 'pure' ? 60_000 : 120_000,
    hookTimeout: 120_000,
    // A state that is waited for may take its time on a busy machine: the test's own time limit is
    // the bound.
    expect: { poll: { timeout: 30_000 } },
  },
})
