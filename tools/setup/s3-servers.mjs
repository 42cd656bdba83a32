// The S3 servers that tests start (`TestS3`), built from pinned source into .tools/bin: `node
// tools/setup/s3-servers.mjs`. Neither project is published as a binary that a checkout could pin;
// `npm test` builds them once, beside its first tests: it takes some minutes.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { say } from './steps.mjs'

const SERVERS = [
  // The last source that there is. What was published as a binary lacks the fix of CVE-2025-62506.
  { name: 'minio', module: 'github.com/minio/minio', version: 'v0.0.0-20260212201848-7aac2a2c5b7c' },
  // Only tests of behaviour run on it: without optimization it is built in two thirds of the time.
  {
    name: 'versitygw',
    module: 'github.com/versity/versitygw',
    package: '/cmd/versitygw',
    version: 'v1.8.0',
    flags: ['-gcflags=all=-N -l'],
  },
]
const GO = ['go', '/usr/local/go/bin/go']

/**
 * Builds what is not there in its version. Without Go, or if a build fails, it says so and goes on:
 * the tests that need a server are skipped, with the reason.
 */
function buildS3Servers(root) {
  const tools = join(root, '.tools')
  const wanted = SERVERS.filter(({ name, version }) => !isBuilt(tools, name, version))
  if (wanted.length === 0 || process.env.STRATA_TEST_S3) return true
  const go = GO.find((command) => spawnSync(command, ['version'], { stdio: 'ignore' }).status === 0)
  if (!go) {
    say(`no Go: tests on ${wanted.map(({ name }) => name).join(' and ')} are skipped`)
    return false
  }
  mkdirSync(join(tools, 'bin'), { recursive: true })
  return wanted.map((server) => build(go, tools, server)).every(Boolean)
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
  process.exitCode = buildS3Servers(fileURLToPath(new URL('../..', import.meta.url))) ? 0 : 1
