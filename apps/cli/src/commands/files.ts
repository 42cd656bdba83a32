import type { FileListView, FileView } from '@strata/api'
import type { Command } from 'commander'
import { urlOf, type Client } from '../client.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { download } from '../download.js'
import { shortId, table } from '../format/table.js'
import { argumentBytes, bytesOf, encodeBytes, shownName } from '../name-bytes.js'
import { print, printText } from '../terminal.js'

interface LayerOption {
  readonly layer?: string
}
const LAYER = ['--layer <layer>', 'one layer alone: its number, 0 the lowest, its diffID or digest'] as const
const PAGE = 5_000

/** A look into images: no container is made and nothing unpacked. */
export function fileCommands(program: Command, context: Context): void {
  program
    .command('ls')
    .description('list what an image has in a folder')
    .argument('<image>')
    .argument('[path]', 'symbolic links are followed within the image', '/')
    .option('-l, --long', 'type, mode, owner, size, time and layer as well')
    .option('--format <format>', 'json: one object of the API a line')
    .option(...LAYER)
    .action(async (image: string, path: string, options: LayerOption & { long?: boolean; format?: string }) => {
      const files = await filesIn(context.client(), image, argumentBytes(path), options.layer)
      if (options.format === 'json') for (const file of files) print(JSON.stringify(file))
      else if (options.long)
        printText(table(['MODE', 'OWNER', 'SIZE', 'MODIFIED', 'LAYER', 'NAME'], files.map(longRow)))
      else for (const file of files) print(shownName(bytesOf(file.name, file.nameBase64)))
    })

  program
    .command('cat')
    .description('write a file of an image to stdout')
    .argument('<image>')
    .argument('<path>', 'symbolic links are followed within the image')
    .option(...LAYER)
    .action(async (image: string, path: string, { layer }: LayerOption) => {
      await download(context.client(), at('readFile', image, argumentBytes(path), layer), undefined)
    })
}

/** Of a folder what is in it; of anything else itself. */
async function filesIn(client: Client, image: string, path: Buffer, layer: string | undefined): Promise<FileView[]> {
  const files: FileView[] = []
  for (let offset: number | undefined = 0; offset !== undefined;) {
    const page: FileListView = await client.listFiles(
      `${at('listFiles', image, path, layer)}&offset=${offset}&limit=${PAGE}`,
    )
    if (page.self.type !== 'directory') return [page.self]
    files.push(...page.files)
    if (page.next !== undefined && page.next <= offset) throw new CliError('the list does not end')
    offset = page.next
  }
  return files
}

/** A path may have bytes that no text has, so its parameter is encoded here. */
function at(route: 'readFile' | 'listFiles', image: string, path: Buffer, layer: string | undefined): string {
  const url = urlOf(route, { params: { ref: image }, query: { layer } })
  return `${url}${layer === undefined ? '?' : '&'}path=${encodeBytes(path)}`
}

const LETTERS: Readonly<Record<FileView['type'], string>> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  char: 'c',
  block: 'b',
  fifo: 'p',
  hardlink: 'h',
  whiteout: 'w',
}

function longRow(file: FileView): string[] {
  const target = file.target === undefined ? '' : ` -> ${shownName(bytesOf(file.target, file.targetBase64))}`
  const size = file.device ? file.device.join(',') : String(file.size)
  return [
    `${LETTERS[file.type]}${permissions(file.mode)}`,
    `${file.uid}:${file.gid}`,
    size,
    timeText(file.mtime),
    file.layer ? shortId(file.layer) : '',
    `${shownName(bytesOf(file.name, file.nameBase64))}${target}`,
  ]
}

/** `rwxr-xr-x` of `0755`, with s and t as ls writes them. */
function permissions(mode: string): string {
  const bits = parseInt(mode, 8)
  const special = [
    [0o4000, 's', 'S'],
    [0o2000, 's', 'S'],
    [0o1000, 't', 'T'],
  ] as const
  return special
    .map(([flag, on, off], who) => {
      const own = (bits >> (6 - 3 * who)) & 7
      const run = (own & 1) !== 0 ? (bits & flag ? on : 'x') : bits & flag ? off : '-'
      return `${own & 4 ? 'r' : '-'}${own & 2 ? 'w' : '-'}${run}`
    })
    .join('')
}

/** A tar may hold a time that no calendar has. */
function timeText(seconds: number): string {
  const date = new Date(seconds * 1000)
  return Number.isNaN(date.getTime()) ? `@${seconds}` : date.toISOString().slice(0, 16).replace('T', ' ')
}
