import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { z } from 'zod'

const SUITE = {
  module: 'github.com/opencontainers/distribution-spec/conformance',
  version: 'v0.0.0-20260831232431-97274622c111',
}

/** The versions of the specification, and what the suite is told beside them. */
const VERSIONS = { '1.1': {}, dev: { OCI_DATA_SPARSE: 'true' } } as const
export type SpecVersion = keyof typeof VERSIONS
export const SPEC_VERSIONS = ['1.1', 'dev'] as const satisfies readonly SpecVersion[]

/** What the suite says of a registry. */
export interface ConformanceResult {
  readonly version: SpecVersion
  readonly counts: Readonly<Record<'tests' | 'failures' | 'errors' | 'skipped' | 'disabled', number>>
  /** `Pass`, or something else, of each API and of each kind of data. */
  readonly apis: Readonly<Record<string, string>>
  readonly data: Readonly<Record<string, string>>
  /** The tests that did not pass, with the reason. */
  readonly notPassed: readonly string[]
}

/**
 * The official conformance suite of the OCI distribution specification, built from the Go module
 * proxy at the first call and kept in `.tools` under a name that has its version.
 */
export async function conformanceSuite(): Promise<string> {
  const folder = fileURLToPath(new URL(`../../../../.tools/conformance-${SUITE.version}`, import.meta.url))
  const program = join(folder, 'conformance')
  if (existsSync(program)) return program
  await mkdir(folder, { recursive: true })
  const env = { ...process.env, GOBIN: folder, GOFLAGS: '', GOGC: '400' }
  // Go reads the go.mod of the folder that it is called in.
  await run('go', ['install', '-trimpath', `${SUITE.module}@${SUITE.version}`], { env, cwd: '/' })
  return program
}

/** `registry`: HOST:PORT. `results`: a folder for the suite's report. */
export async function runConformance(
  suite: string,
  version: SpecVersion,
  registry: string,
  results: string,
): Promise<ConformanceResult> {
  const env = {
    PATH: process.env['PATH'],
    OCI_REGISTRY: registry,
    OCI_TLS: 'disabled',
    OCI_VERSION: version,
    OCI_REPO1: `conformance/${version}/one`,
    OCI_REPO2: `conformance/${version}/two`,
    OCI_RESULTS_DIR: results,
    ...VERSIONS[version],
  }
  // It ends with 1 if a test failed, and with 0 if it could not read its configuration: only what
  // it wrote counts.
  const said = await run(suite, [], { env, cwd: '/' }).catch(String)
  const file = join(results, 'results.yaml')
  if (!existsSync(file)) throw new Error(`the suite has left no results.yaml: ${said.slice(-2_000)}`)
  const { apis, data } = resultsSchema.parse(parse(await readFile(file, 'utf8')))
  const junit = await readFile(join(results, 'junit.xml'), 'utf8')
  return { version, apis, data, counts: countsIn(junit), notPassed: notPassedIn(junit) }
}

const statuses = z.record(z.string(), z.string())
const resultsSchema = z.object({ apis: statuses, data: statuses })

/** The suite writes no other elements, and each attribute where the encoder of Go puts it. */
function countsIn(junit: string): ConformanceResult['counts'] {
  const [head = ''] = /^<testsuites [^>]*>/.exec(junit) ?? []
  const count = (name: string): number => Number(new RegExp(` ${name}="(\\d+)"`).exec(head)?.[1] ?? 0)
  return {
    tests: count('tests'),
    failures: count('failures'),
    errors: count('errors'),
    skipped: count('skipped'),
    disabled: count('disabled'),
  }
}

function notPassedIn(junit: string): string[] {
  const cases = junit.matchAll(/<testcase name="([^"]*)"[^>]* status="(?!passed)(\w+)">(?:\s*<system-out>([^<]*)<)?/g)
  return [...cases].map(([, name, status, said = '']) => `${name} (${status}): ${said.slice(0, 300)}`)
}

/** One page: what was asked of which store, and what came of it. */
export function conformanceReport(results: ReadonlyMap<string, readonly ConformanceResult[]>): string {
  const all = [...results].flatMap(([store, of]) => of.map((result) => ({ store, ...result })))
  const rows = all.map(({ store, version, counts }) => {
    const { tests, failures, errors, skipped, disabled } = counts
    const told = Object.entries({ OCI_VERSION: version, ...VERSIONS[version] })
    const asked = told.map(([name, value]) => `\`${name}=${value}\``).join(', ')
    const passed = tests - failures - errors - skipped - disabled
    return `| ${store} | ${asked} | ${tests} | ${passed} | ${failures + errors} | ${skipped} | ${disabled} |`
  })
  const kinds = (of: 'apis' | 'data'): string => {
    const names = new Set(all.flatMap((result) => Object.keys(result[of])))
    const said = (name: string, version: SpecVersion): string =>
      [...new Set(all.filter((result) => result.version === version).map((result) => result[of][name]))].join(', ')
    return [...names]
      .sort()
      .map((name) => `| ${name} | ${SPEC_VERSIONS.map((version) => said(name, version)).join(' | ')} |`)
      .join('\n')
  }
  return `# Conformance

What the official conformance suite of the OCI distribution specification says of Strata. \`npm run conformance -w @strata/e2e\`
writes this page; \`tools/e2e/src/conformance.root.spec.ts\` asks the same in CI and fails unless all pass.

Suite: \`${SUITE.module}@${SUITE.version}\`. Two gateways over one store, and each request goes to the other one than the request
before. \`STRATA_SPARSE_IMAGES=true\` is set, which \`OCI_DATA_SPARSE=true\` needs ([decision 86](decisions/0086-layers-that-are-not-here.md));
\`STRATA_MAX_BLOB_BYTES\` is 1 GiB, so that the suite's chunks (\`OCI-Chunk-Min-Length\`) are small. Everything else is as it is by default.

| store | asked | tests | passed | failed | skipped | of another version |
| --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}

| API, on both stores | ${SPEC_VERSIONS.join(' | ')} |
| --- | --- | --- |
${kinds('apis')}

| data, on both stores | ${SPEC_VERSIONS.join(' | ')} |
| --- | --- | --- |
${kinds('data')}
`
}

function run(command: string, args: readonly string[], options: { env: NodeJS.ProcessEnv; cwd: string }) {
  return new Promise<string>((resolve, reject) => {
    execFile(command, args, { ...options, encoding: 'utf8', maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${command} ${args.join(' ')}: ${error.message}\n${stdout}${stderr}`))
      else resolve(stdout + stderr)
    })
  })
}
