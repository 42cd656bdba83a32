// `npm run fuzz -- --minutes 60`: builds, then src/run.ts.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const node = join(ROOT, 'node_modules/.bin/node')
const built = spawnSync(node, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-b', 'tools/fuzz'], {
  cwd: ROOT,
  stdio: 'inherit',
})
process.exit(
  built.status === 0
    ? (spawnSync(node, [join(ROOT, 'tools/fuzz/dist/run.js'), ...process.argv.slice(2)], { stdio: 'inherit' }).status ??
        1)
    : 1,
)
