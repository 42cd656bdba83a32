import { rmSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'

/**
 * A vitest reporter that writes `{passed, failed, skipped: [{name, reason}], specs: [{file, ms}]}`
 * to STRATA_TEST_RESULT. vitest's own JSON leaves out why a test was skipped: the text given to
 * `context.skip(reason)`. A file that cannot be loaded, a failed hook of a suite and an unhandled
 * error count as failures. The time of a spec is that of its tests and hooks.
 */
export default class CountReporter {
  onInit() {
    // A run that dies must not leave the last run's numbers.
    rmSync(process.env.STRATA_TEST_RESULT, { force: true })
  }

  onTestRunEnd(modules, unhandledErrors) {
    const result = { passed: 0, failed: unhandledErrors.length, skipped: [], specs: [] }
    for (const module of modules) {
      result.failed += module.errors().length
      result.specs.push({
        file: relative(process.cwd(), module.moduleId),
        ms: Math.round(module.diagnostic().duration),
      })
      for (const suite of module.children.allSuites()) result.failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const { state, note } = test.result()
        if (state === 'passed') result.passed += 1
        else if (state === 'failed') result.failed += 1
        else result.skipped.push({ name: test.fullName, reason: note ?? 'no reason given' })
      }
    }
    writeFileSync(process.env.STRATA_TEST_RESULT, `${JSON.stringify(result, undefined, 1)}\n`)
  }
}
