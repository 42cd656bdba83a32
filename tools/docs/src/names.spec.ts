import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { API } from '@strata/api'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

/** Every file and folder that a document may name. */
const PATHS: readonly string[] = globSync(['*', '{apps,libs,tools,docs,infra,.ci}/**'], {
  cwd: ROOT,
  exclude: (name) => ['node_modules', 'dist', '.test-results'].includes(name),
})
/** All ends of those paths that begin at a folder: `http/problem.ts`, `problem.ts`. */
const ENDS = new Set(PATHS.flatMap((path) => path.split('/').map((_, at, parts) => parts.slice(at).join('/'))))

interface Document {
  readonly path: string
  readonly text: string
}
/** Decisions are left out: they speak of their own time. */
const DOCUMENTS: readonly Document[] = PATHS.filter(
  (path) => path.endsWith('.md') && !path.startsWith('docs/decisions/0'),
).map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }))

/** Where the document says it, for people: `docs/x.md:12: what`. */
function found({ path, text }: Document, at: number, what: string): string {
  return `${path}:${text.slice(0, at).split('\n').length}: ${what}`
}

/** Each match in each document for which `isThere` is false. */
function missing(pattern: RegExp, isThere: (match: string, document: Document) => boolean): string[] {
  return DOCUMENTS.flatMap((document) =>
    [...document.text.matchAll(pattern)]
      .filter(([, match]) => !isThere(match!, document))
      .map(({ index, 1: match }) => found(document, index, match!)),
  )
}

/** How GitHub names a heading in a link. */
function anchorsOf(path: string): Set<string> {
  const text = readFileSync(join(ROOT, path), 'utf8')
  return new Set(
    [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
      heading!
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

describe('the documents name what is there', () => {
  it('files and headings in links', () => {
    const isThere = (target: string, { path }: Document): boolean => {
      const [file = '', anchor] = target.split('#')
      const to = file === '' ? path : normalize(join(dirname(path), file)).replace(/\/$/, '')
      return PATHS.includes(to) && (anchor === undefined || anchorsOf(to).has(anchor))
    }
    expect(missing(/\]\((?!https?:)([^)\s]+)\)/g, isThere)).toEqual([])
  })

  it('paths, and names of source files', () => {
    const isThere = (name: string, { path }: Document): boolean =>
      name.startsWith('src/') ? PATHS.includes(join(dirname(path), name)) : ENDS.has(name.replace(/\/$/, ''))
    expect(missing(/`((?:apps|libs|tools|docs|infra)\/[\w./-]+)`/g, isThere)).toEqual([])
    expect(missing(/`([\w./-]+\.(?:ts|mjs))`/g, isThere)).toEqual([])
  })

  it('routes of the public API', () => {
    const known = Object.values(API).map(({ method, path }) => ({
      method,
      path: new RegExp(`^${path.replaceAll(/:\w+/g, '[^/]+')}$`),
    }))
    const isThere = (route: string): boolean => {
      const [method, path] = route.split(' ')
      return known.some((one) => one.method === method && one.path.test(path!))
    }
    expect(missing(/`((?:GET|POST|PUT|DELETE) \/v1\/[^`\s?]*)/g, isThere)).toEqual([])
  })

  it('variables', () => {
    const code = PATHS.filter((path) => /\.(ts|mjs|yml|sh)$|^\.ci\/|Dockerfile/.test(path) && /\.\w+$|run$/.test(path))
      .map((path) => readFileSync(join(ROOT, path), 'utf8'))
      .join('\n')
    expect(missing(/\b(STRATA_[A-Z0-9_]*[A-Z0-9])\b/g, (name) => code.includes(name))).toEqual([])
  })

  it('commands of the command line', () => {
    const sources = PATHS.filter((path) => /^apps\/cli\/src\/.*\.ts$/.test(path))
    const commands = new Set(
      sources.flatMap((path) =>
        [...readFileSync(join(ROOT, path), 'utf8').matchAll(/\.command\('([a-z]+)/g)].map(([, name]) => name!),
      ),
    )
    const services = new Set(PATHS.filter((path) => /^apps\/[a-z]+$/.test(path)).map((path) => path.slice(5)))
    const isThere = (name: string): boolean => commands.has(name) || services.has(name)
    expect(missing(/(?:`|^|[|&;] )strata ([a-z]+)/gm, isThere)).toEqual([])
  })
})
