import { InvalidArgumentError, type Command } from 'commander'
import { table } from './format/table.js'
import { print, printText } from './terminal.js'

export interface ListOptions {
  readonly quiet?: boolean
  readonly format: 'table' | 'json'
}

/**
 * How one kind of thing is listed: a row of the table may be several for one item (an image has a
 * row a name).
 */
export interface Listing<T> {
  readonly header: readonly string[]
  rows(item: T): string[][]
  /** What `-q` prints. */
  id(item: T): string
}

export function withFormat(command: Command): Command {
  return command.option('--format <format>', 'table, or json: one object of the API a line', parseFormat, 'table')
}

export function withListOptions(command: Command): Command {
  return withFormat(command).option('-q, --quiet', 'only ids')
}

function parseFormat(text: string): string {
  if (text === 'json' || text === 'table') return text
  throw new InvalidArgumentError('Formats are table and json.')
}

export function printList<T>(items: readonly T[], options: ListOptions, listing: Listing<T>): void {
  if (options.quiet) for (const item of items) print(listing.id(item))
  else if (options.format === 'json') for (const item of items) print(JSON.stringify(item))
  else
    printText(
      table(
        listing.header,
        items.flatMap((item) => listing.rows(item)),
      ),
    )
}
