import type { ChangeView, DiffView } from '@strata/api'
import { Argument, type Command } from 'commander'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { humanSize } from '../format/units.js'
import { bytesOf, shownName } from '../name-bytes.js'
import { parseFormat, type Format } from '../list.js'
import { note, print, printRendered } from '../terminal.js'

const PAGE = 5_000
/** docker's letters. */
const LETTERS: Readonly<Record<ChangeView['kind'], string>> = { added: 'A', changed: 'C', removed: 'D' }

export function diffCommand(program: Command, context: Context): void {
  program
    .command('diff')
    .description(
      'what of the files is added (A), changed (C) and removed (D) from one image to another, or by one layer',
    )
    .argument('<image>')
    .addArgument(new Argument('[other]', 'the image that it is compared with'))
    .option(
      '--layer <layer>',
      'what this layer changed in those below it: its number, 0 the lowest, its diffID or digest',
    )
    .option(
      '--format <format>',
      "json (an object of the API a line), or a template, as '{{.Kind}} {{.Path}}'",
      parseFormat,
    )
    .option('-q, --quiet', 'only the sums')
    .action(
      async (
        image: string,
        other: string | undefined,
        options: { layer?: string; format?: Format; quiet?: boolean },
      ) => {
        if (options.format?.kind === 'table')
          throw new CliError('diff has no table: its formats are json and templates')
        if ((other === undefined) === (options.layer === undefined))
          throw new CliError('diff is of two images, or of one with --layer: strata diff IMAGE OTHER')
        const client = context.client()
        const params = { ref: image }
        const query = { other, layer: options.layer, limit: options.quiet ? 1 : PAGE }
        const first = await client.call('diffImages', { params, query })
        for (let page = first; ;) {
          if (!options.quiet) for (const change of page.changes) show(change, options.format)
          const { next } = page
          if (options.quiet || next === undefined) break
          page = await client.call('diffImages', { params, query: { ...query, after: next } })
          if (page.next === next) throw new CliError('the list does not end')
        }
        if (options.format === undefined) sums(first)
      },
    )
}

function show(change: ChangeView, format: Format | undefined): void {
  if (format?.kind === 'json') print(JSON.stringify(change))
  else if (format?.kind === 'template') printRendered(format.render(fieldsOf(change)))
  else print(line(change))
}

function fieldsOf({ kind, path, pathBase64, type, before, after, aspects }: ChangeView): object {
  return {
    Kind: LETTERS[kind],
    Path: `/${shownName(bytesOf(path, pathBase64))}`,
    Type: type,
    Before: before ?? 0,
    After: after ?? 0,
    Aspects: aspects ?? [],
  }
}

function line({ kind, path, pathBase64, type, before, after, aspects }: ChangeView): string {
  const sizes =
    type !== 'file'
      ? ''
      : kind === 'changed' && before !== after
        ? ` (${humanSize(before ?? 0)} -> ${humanSize(after ?? 0)})`
        : ` (${humanSize(after ?? before ?? 0)})`
  return `${LETTERS[kind]} /${shownName(bytesOf(path, pathBase64))}${sizes}${aspects === undefined ? '' : ` ${aspects.join(',')}`}`
}

/** On stderr, so that what is on stdout is changes only. */
function sums({ added, changed, removed, unread }: DiffView): void {
  const text = Object.entries({ added, changed, removed }).flatMap(([word, sum]) =>
    sum === undefined ? [] : [`${sum.count} ${word} (${humanSize(sum.bytes)})`],
  )
  note(text.join(', '))
  if (unread !== undefined && unread.count > 0)
    note(
      `${unread.count} files (${humanSize(unread.bytes)}) are alike in size, time and owner but of different layers: their bytes were not compared`,
    )
}
