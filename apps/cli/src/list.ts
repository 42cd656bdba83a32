import { InvalidArgumentError, type Command } from 'commander'
import { table } from './format/table.js'
import { jsonOf } from './format/template-values.js'
import { parseTemplate } from './format/template.js'
import { CliError } from './errors.js'
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

export function withListOptions(command: Command): Command {
  return withFormat(command).option('-q, --quiet', 'only ids')
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
  { quiet, format }: ListOptions,
  listing: Listing<T, Field>,
): void {
  const { titles, columns, json } = listing
  // As docker: -q is for the table alone.
  if (quiet && format.kind === 'table') for (const item of items) print(listing.id(item))
  else if (format.kind === 'json')
    for (const value of json ? items.map(json) : items.flatMap((item) => listing.rows(item))) print(jsonOf(value))
  else {
    const rows = items.flatMap((item) => listing.rows(item))
    if (format.kind === 'template') for (const row of rows) printRendered(format.render(row))
    else {
      const { render } = format
      const cells = (row: Readonly<Record<Field, string>>): string[] =>
        render ? render(row).split('\t') : columns.map((name) => row[name])
      printText(table(cells(titles), rows.map(cells)))
    }
  }
}

/** Something that is there once. @param lines what the table has of it */
export function printOne(format: Format, json: unknown, value: () => unknown, lines: () => readonly string[]): void {
  if (format.kind === 'json') print(jsonOf(json))
  else if (format.kind === 'template') printRendered(format.render(value()))
  else if (format.render) throw new CliError('this is no list: leave out the word table')
  else for (const line of lines()) print(line)
}
