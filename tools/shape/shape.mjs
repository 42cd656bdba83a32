#!/usr/bin/env node
// The shape of the code, as a table: `npm run shape`. Every .ts and .mjs file of apps, libs and
// tools, blank lines included.
import { globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const files = globSync('{apps,libs,tools}/**/*.{ts,mjs}', {
  cwd: ROOT,
  exclude: (path) => /(^|\/)(node_modules|dist)$/.test(path),
}).map((path) => {
  const text = readFileSync(join(ROOT, path), 'utf8')
  return { path, lines: text.replace(/\n$/, '').split('\n'), exports: exportsOf(text), isTest: isTest(path) }
})
const lines = files.flatMap((file) => file.lines)
const lengths = files.map((file) => file.lines.length)
const folders = Map.groupBy(
  files.filter((file) => !file.isTest && file.path.endsWith('.ts')),
  (file) => dirname(file.path),
)
const exported = [...folders.values()].map((inside) => sum(inside.map((file) => file.exports))).filter((count) => count)

const share = (count, all) => `${((100 * count) / all).toFixed(2)} %`
const longer = (width) => share(lines.filter((line) => line.length > width).length, lines.length)
const ofTests = sum(files.filter((file) => file.isTest).map((file) => file.lines.length))
const rows = {
  'files, lines': `${files.length}, ${lines.length}`,
  'median / p90 / max lines a file': [0.5, 0.9, 1].map((part) => quantile(lengths, part)).join(' / '),
  'mean characters a line': (sum(lines.map((line) => line.length)) / lines.length).toFixed(1),
  'lines above 120; above 140': `${longer(120)}; ${longer(140)}`,
  'comment lines': share(lines.filter((line) => /^\s*(\/\/|\/?\*)/.test(line)).length, lines.length),
  'exports a folder, median / p90': [0.5, 0.9].map((part) => quantile(exported, part)).join(' / '),
  'test lines a source line': (ofTests / (lines.length - ofTests)).toFixed(2),
}
for (const [what, figure] of Object.entries(rows)) process.stdout.write(`${what.padEnd(34)}${figure}\n`)

/** Specs, what serves specs only, and the packages that are tests as a whole. */
function isTest(path) {
  return /\.spec\.ts$|\/testing\/|^tools\/(e2e|faults|fuzz|lint-test|deploy)\//.test(path)
}

/** Names that a file exports itself: `export *` counts where the names are declared. */
function exportsOf(text) {
  const declared = text.match(
    /^export (?:default )?(?:abstract )?(?:async )?(?:const|let|class|function\*?|interface|type|enum) [\w$]/gm,
  )
  const listed = [...text.matchAll(/^export (?:type )?\{([^}]*)\}/gm)].flatMap(([, names]) => names.split(','))
  return (declared?.length ?? 0) + listed.filter((name) => name.trim()).length
}

function sum(numbers) {
  return numbers.reduce((all, one) => all + one, 0)
}

function quantile(numbers, part) {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]
}
