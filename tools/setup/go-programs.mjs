// Programs that tests start, built from pinned source into .tools/bin: the S3 servers of `TestS3`
// and clients of registries. `node tools/setup/go-programs.mjs` builds those of `npm test`, which
// runs it beside its first tests: it takes some minutes, once. With names it builds those.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { say } from './steps.mjs'

/** For tests of behaviour only: without optimization the build takes two thirds of the time. */
const QUICK = ['-gcflags=all=-N -l']
const PROGRAMS = [
  // No project of a server publishes a binary that a checkout could pin. This is the last source of
  // MinIO that there is. What was published as a binary lacks the fix of CVE-2025-62506.
  { name: 'minio', of: 's3', module: 'github.com/minio/minio', version: 'v0.0.0-20260212201848-7aac2a2c5b7c' },
  {
    name: 'versitygw',
    of: 's3',
    module: 'github.com/versity/versitygw',
    package: '/cmd/versitygw',
    version: 'v1.8.0',
    flags: QUICK,
  },
  {
    name: 'crane',
    of: 'registry',
    module: 'github.com/google/go-containerregistry',
    package: '/cmd/crane',
    version: 'v0.22.1',
    flags: QUICK,
  },
  {
    name: 'oras',
    of: 'registry',
    module: 'oras.land/oras',
    package: '/cmd/oras',
    version: 'v1.3.6',
    flags: QUICK,
  },
  {
    name: 'regctl',
    of: 'registry',
    module: 'github.com/regclient/regclient',
    package: '/cmd/regctl',
    version: 'v0.11.7',
    flags: QUICK,
  },
  // By name only: helm and cosign take minutes and gigabytes.
  { name: 'registry', module: 'github.com/distribution/distribution/v3', package: '/cmd/registry', version: 'v3.1.2' },
  { name: 'helm', module: 'helm.sh/helm/v4', package: '/cmd/helm', version: 'v4.3.1', flags: QUICK },
  { name: 'cosign', module: 'github.com/sigstore/cosign/v3', package: '/cmd/cosign', version: 'v3.1.3', flags: QUICK },
]
const GO = ['go', '/usr/local/go/bin/go']

/**
 * Builds what is not there in its version. Without Go, or if a build fails, it says so and goes on:
 * the tests that need a program are skipped, with the reason.
 */
function buildPrograms(root, names) {
  const tools = join(root, '.tools')
  const wanted = PROGRAMS.filter(({ name, of, version }) => {
    const isAsked = names.length > 0 ? names.includes(name) : of !== undefined
    return isAsked && !(of === 's3' && process.env.STRATA_TEST_S3) && !isBuilt(tools, name, version)
  })
  if (wanted.length === 0) return true
  const go = GO.find((command) => spawnSync(command, ['version'], { stdio: 'ignore' }).status === 0)
  if (!go) {
    say(`no Go: tests on ${wanted.map(({ name }) => name).join(', ')} are skipped`)
    return false
  }
  mkdirSync(join(tools, 'bin'), { recursive: true })
  return wanted.map((program) => build(go, tools, program)).every(Boolean)
}

function build(go, tools, { name, module, version, package: path = '', flags = [] }) {
  say(`building ${name} ${version} from source, for tests`)
  const env = { ...process.env, GOBIN: join(tools, 'bin'), GOFLAGS: '', GOGC: '400' }
  const { status, stderr } = spawnSync(
    go,
    ['install', '-trimpath', '-ldflags', '-s -w', ...flags, `${module}${path}@${version}`],
    { env, stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' },
  )
  if (status === 0) writeFileSync(join(tools, `${name}.version`), version)
  else say(`${name} was not built: ${stderr?.trim().split('\n').at(-1) ?? 'go did not run'}; tests on it are skipped`)
  return status === 0
}

function isBuilt(tools, name, version) {
  const stamp = join(tools, `${name}.version`)
  return existsSync(join(tools, 'bin', name)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === version
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.exitCode = buildPrograms(fileURLToPath(new URL('../..', import.meta.url)), process.argv.slice(2)) ? 0 : 1
