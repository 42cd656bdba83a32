import { rmSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'

/**
 * A vitest reporter that writes `{passed, failed: [sentence], skipped: [{name, reason}], specs:
 * [{file, ms}]}` to STRATA_TEST_RESULT. vitest's own JSON leaves out why a test was skipped: the
 * text given to `context.skip(reason)`. A file that cannot be loaded, a failed hook of a suite and
 * an unhandled error count as failures. The time of a spec is that of its tests and hooks.
 */
export default class CountReporter {
  onInit() {
    // A run that dies must not leave the last run's numbers.
    rmSync(process.env.STRATA_TEST_RESULT, { force: true })
  }

  onTestRunEnd(modules, unhandledErrors) {
    const result = { passed: 0, failed: [], skipped: [], specs: [] }
    const fail = (name, error) => result.failed.push(`${name}: ${beginning(error)}`)
    for (const error of unhandledErrors) fail('an error that no test caught', error)
    for (const module of modules) {
      const file = relative(process.cwd(), module.moduleId)
      for (const error of module.errors()) fail(file, error)
      result.specs.push({ file, ms: Math.round(module.diagnostic().duration) })
      for (const suite of module.children.allSuites())
        for (const error of suite.errors()) fail(`${file} > ${suite.fullName}`, error)
      for (const test of module.children.allTests()) {
        const { state, note, errors } = test.result()
        if (state === 'passed') result.passed += 1
        else if (state === 'failed') fail(`${file} > ${test.fullName}`, errors[0])
        else result.skipped.push({ name: test.fullName, reason: note ?? 'no reason given' })
      }
    }
    writeFileSync(process.env.STRATA_TEST_RESULT, `${JSON.stringify(result, undefined, 1)}\n`)
  }
}

/** Enough to know a failure by; the whole stands where the test ran. */
function beginning(error) {
  return String(error?.message ?? 'no error')
    .replace(/\u001b\[\d*m/g, '')
    .slice(0, 500)
}
