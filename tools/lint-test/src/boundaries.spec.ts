import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../..', import.meta.url))

interface LintResult {
  readonly filePath: string
  readonly messages: readonly { readonly ruleId: string | null; readonly message: string }[]
}

/**
 * Files with one import each, linted by the command that `npm run lint` runs, in the folders whose
 * rules they break or keep.
 */
async function lint(imports: Readonly<Record<string, string>>): Promise<Record<string, string[]>> {
  const folders: string[] = []
  const files: Record<string, string> = {}
  try {
    for (const [project, from] of Object.entries(imports)) {
      const folder = await mkdtemp(join(root, project, 'src/lint-test-'))
      folders.push(folder)
      files[join(folder, 'forbidden.ts')] = project
      await writeFile(join(folder, 'forbidden.ts'), `export * from '${from}'\n`)
    }
    const results = JSON.parse(await eslint(Object.keys(files))) as LintResult[]
    return Object.fromEntries(
      results.map(({ filePath, messages }) => [
        files[filePath] ?? relative(root, filePath),
        messages.map(({ ruleId, message }) => `${ruleId ?? ''}: ${message}`),
      ]),
    )
  } finally {
    for (const folder of folders) await rm(folder, { recursive: true, force: true })
  }
}

function eslint(files: string[]): Promise<string> {
  // Not as part of this test's Nx task: the graph has to hold the new files.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NX_')))
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [join(root, 'node_modules/eslint/bin/eslint.js'), '--format', 'json', ...files],
      { cwd: root, env, maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        const json = stdout.slice(stdout.indexOf('[{'))
        if (json.startsWith('[{')) resolve(json)
        else reject(new Error(stderr || stdout, { cause: error }))
      },
    )
  })
}

it('a forbidden import fails lint, an allowed one does not', { timeout: 120_000 }, async () => {
  const found = await lint({
    'libs/oci': '@strata/store',
    'libs/store': '@nestjs/common',
    'libs/erofs': '../../../layers/src/index.js',
    'apps/gateway': '@strata/runtime',
    'apps/cli': '@strata/store',
    'libs/archive': '@strata/oci',
  })
  const boundary = expect.stringContaining('@nx/enforce-module-boundaries') as string
  expect(found).toEqual({
    'libs/oci': expect.arrayContaining([boundary]) as string[],
    'libs/store': [expect.stringContaining('Nest and Redis live in apps') as string],
    'libs/erofs': expect.arrayContaining([boundary]) as string[],
    'apps/gateway': expect.arrayContaining([boundary]) as string[],
    'apps/cli': expect.arrayContaining([boundary]) as string[],
    'libs/archive': [],
  })
})
