import { InvalidArgumentError, type Command } from 'commander'
import { tableOf } from './format/table.js'
import { jsonOf } from './format/template-values.js'
import { parseTemplate } from './format/template.js'
import { CliError } from './errors.js'
import { isRead } from './output.js'
import { print, printRendered, printText } from './terminal.js'

/** What `--format` asks for. `table` with a template has the template's columns. */
export type Format =
  | { readonly kind: 'table'; readonly render?: (value: unknown) => string }
  | { readonly kind: 'json' }
  | { readonly kind: 'template'; readonly render: (value: unknown) => string }

export interface ListOptions {
  readonly quiet?: boolean
  readonly format: Format
}

/**
 * How one kind of thing is listed. A row is what a template sees of it, by docker's names where
 * docker has the list; an item may have several (an image has a row a name).
 */
export interface Listing<T, Field extends string = string> {
  /** The title of each field's column, as docker writes it. */
  readonly titles: Readonly<Record<Field, string>>
  /** The columns of the table without a template. */
  readonly columns: readonly NoInfer<Field>[]
  rows(item: T): Readonly<Record<NoInfer<Field>, string>>[]
  /** What `-q` prints. */
  id(item: T): string
  /** What `json` prints of a list that docker does not have. Otherwise it is the rows. */
  readonly json?: (item: T) => unknown
}

export function withFormat(command: Command): Command {
  return command.option(
    '--format <format>',
    "table, json (an object a line), or a template of Go's: '{{.ID}}', 'table {{.ID}}\\t{{.Size}}'",
    parseFormat,
    { kind: 'table' } satisfies Format,
  )
}

/** @param ids what `-q` prints */
export function withListOptions(command: Command, ids = 'ids'): Command {
  return withFormat(command).option('-q, --quiet', `only ${ids}`)
}

/** @throws InvalidArgumentError, or CliError for a template that is not one */
export function parseFormat(text: string): Format {
  if (text === 'json') return { kind: 'json' }
  if (text === 'table') return { kind: 'table' }
  // As docker: a shell's single quotes keep these two as they were typed.
  const template = text.replaceAll('\\t', '\t').replaceAll('\\n', '\n')
  if (template.startsWith('table ')) return { kind: 'table', render: parseTemplate(template.slice('table '.length)) }
  if (!template.includes('{{'))
    throw new InvalidArgumentError('Formats are table, json, and templates with {{.Field}}.')
  return { kind: 'template', render: parseTemplate(template) }
}

export function printList<T, Field extends string>(
  items: readonly T[],
  options: ListOptions,
  listing: Listing<T, Field>,
): void {
  printerOf(options, listing)(items)
}

/**
 * The same of a list that may be long: each page is printed before the next one is asked for. So a
 * list in another order than the service's is none for this. If nobody reads stdout any more
 * (`strata tags app | head`), no further page is asked for.
 */
export async function printPages<T, Field extends string>(
  pages: AsyncIterable<readonly T[]>,
  options: ListOptions,
  listing: Listing<T, Field>,
): Promise<void> {
  const print = printerOf(options, listing)
  for await (const items of pages) {
    print(items)
    if (!(await isRead())) return
  }
}

function printerOf<T, Field extends string>(
  { quiet, format }: ListOptions,
  listing: Listing<T, Field>,
): (items: readonly T[]) => void {
  const { titles, columns, json } = listing
  const rowsOf = (items: readonly T[]) => items.flatMap((item) => listing.rows(item))
  // As docker: -q is for the table alone.
  if (quiet && format.kind === 'table')
    return (items) => {
      for (const item of items) print(listing.id(item))
    }
  if (format.kind === 'json')
    return (items) => {
      for (const value of json ? items.map(json) : rowsOf(items)) print(jsonOf(value))
    }
  if (format.kind === 'template')
    return (items) => {
      for (const row of rowsOf(items)) printRendered(format.render(row))
    }
  const { render } = format
  const cells = (row: Readonly<Record<Field, string>>): string[] =>
    render ? render(row).split('\t') : columns.map((name) => row[name])
  const linesOf = tableOf(cells(titles))
  return (items) => {
    const lines = linesOf(rowsOf(items).map(cells))
    if (lines.length > 0) printText(lines.join('\n'))
  }
}

/** Something that is there once. @param lines what the table has of it */
export function printOne(format: Format, json: unknown, value: () => unknown, lines: () => readonly string[]): void {
  if (format.kind === 'json') print(jsonOf(json))
  else if (format.kind === 'template') printRendered(format.render(value()))
  else if (format.render) throw new CliError('this is no list: leave out the word table')
  else for (const line of lines()) print(line)
}
