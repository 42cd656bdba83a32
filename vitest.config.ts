import { defineConfig } from 'vitest/config'

/**
 * One configuration for every package: `pure` tests are `*.spec.ts`, `root` tests (root, the
 * kernel, Redis) are `*.root.spec.ts`.
 */
const kind = process.env['STRATA_TEST_KIND'] === 'root' ? 'root' : 'pure'
const conditions = ['@strata/source']

export default defineConfig({
  resolve: { conditions },
  ssr: {
    resolve: { conditions: [...conditions, 'node', 'import', 'module', 'default'], externalConditions: conditions },
  },
  test: {
    include: kind === 'root' ? ['src/**/*.root.spec.ts'] : ['src/**/*.spec.ts'],
    exclude: kind === 'root' ? ['**/node_modules/**'] : ['**/node_modules/**', 'src/**/*.root.spec.ts'],
    passWithNoTests: true,
    fileParallelism: kind === 'pure',
    testTimeout: kind === 'root' ? 120_000 : 20_000,
    hookTimeout: 120_000,
    // A state that is waited for may take its time on a busy machine: the test's own time limit is
    // the bound.
    expect: { poll: { timeout: 30_000 } },
  },
})
