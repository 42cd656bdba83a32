import { globSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { format } from 'node:util'
import ts from 'typescript'
import { vi } from 'vitest'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

/**
 * The example of a library: the `ts` block of its README. A comment that begins with an arrow says
 * a line that the example prints: `console.log(1 + 1) // → 2`.
 */
export interface Example {
  readonly library: string
  readonly code: string
  /** All that it prints, in order. */
  readonly prints: readonly string[]
}

/** Those that need root, Redis, the kernel or compiled threads: the others run as pure tests. */
export const NEED_MORE: ReadonlySet<string> = new Set(['containers', 'intake', 'linux', 'queue', 'snapshots'])

/** @throws Error if a library has no README, or not one example in it */
export function examples(): Example[] {
  return globSync('libs/*/package.json', { cwd: ROOT })
    .sort()
    .map((path) => {
      const library = path.split('/')[1]!
      const readme = readFileSync(join(ROOT, 'libs', library, 'README.md'), 'utf8')
      const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code]) => code!)
      if (blocks.length !== 1) throw new Error(`libs/${library}/README.md has ${blocks.length} blocks of ts, not one`)
      const code = blocks[0]!
      return { library, code, prints: [...code.matchAll(/\/\/ → (.*)$/gm)].map(([, line]) => line!) }
    })
}

/** What the compiler says of them, with the options that all code is checked with. */
export async function typeErrors(all: readonly Example[]): Promise<string[]> {
  return withFiles(all, (files) => {
    const { options } = ts.parseJsonConfigFileContent(
      { extends: './tsconfig.base.json', compilerOptions: { composite: false, declarationMap: false, noEmit: true } },
      ts.sys,
      ROOT,
    )
    const program = ts.createProgram([...files.values()], options)
    return [...files].flatMap(([library, path]) =>
      [
        ...program.getSyntacticDiagnostics(program.getSourceFile(path)),
        ...program.getSemanticDiagnostics(program.getSourceFile(path)),
      ].map(
        ({ messageText, start = 0, file }) =>
          `libs/${library}/README.md, line ${(file?.getLineAndCharacterOfPosition(start).line ?? 0) + 1} of the example: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
      ),
    )
  })
}

/** Runs it in this process and returns what it printed. */
export async function run(example: Example): Promise<string[]> {
  const printed: string[] = []
  const log = vi
    .spyOn(console, 'log')
    .mockImplementation((...values: unknown[]) => void printed.push(format(...values)))
  try {
    await withFiles([example], async (files) => {
      await import(/* @vite-ignore */ pathToFileURL(files.get(example.library)!).href)
    })
  } finally {
    log.mockRestore()
  }
  return printed
}

/** In a folder from which `@strata/…` is found, and that no tool reads. */
async function withFiles<T>(
  all: readonly Example[],
  work: (files: ReadonlyMap<string, string>) => T | Promise<T>,
): Promise<T> {
  const parent = join(ROOT, 'tools/docs/.test-results')
  await mkdir(parent, { recursive: true })
  const folder = await mkdtemp(join(parent, 'examples-'))
  try {
    const files = new Map(all.map(({ library }) => [library, join(folder, `${library}.ts`)]))
    for (const { library, code } of all) await writeFile(files.get(library)!, code)
    return await work(files)
  } finally {
    await rm(folder, { recursive: true })
  }
}
