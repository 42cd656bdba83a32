import type { FileListView, FileView } from '@strata/api'
import type { Command } from 'commander'
import { urlOf, type Client } from '../client.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { download } from '../download.js'
import { shortId } from '../format/table.js'
import { parseFormat, printList, type Format, type Listing } from '../list.js'
import { argumentBytes, bytesOf, encodeBytes, shownName } from '../name-bytes.js'
import { print } from '../terminal.js'

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
    .option('--format <format>', "json (an object of the API a line), or a template, as '{{.Name}}'", parseFormat)
    .option(...LAYER)
    .action(async (image: string, path: string, options: LayerOption & { long?: boolean; format?: Format }) => {
      const files = await filesIn(context.client(), image, argumentBytes(path), options.layer)
      const { format = { kind: 'table' } } = options
      if (options.long || format.kind !== 'table' || format.render) printList(files, { format }, FILES)
      else for (const file of files) print(nameOf(file))
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

const nameOf = (file: FileView): string => shownName(bytesOf(file.name, file.nameBase64))

const FILES = {
  titles: {
    Mode: 'MODE',
    Owner: 'OWNER',
    Size: 'SIZE',
    Modified: 'MODIFIED',
    Layer: 'LAYER',
    Type: 'TYPE',
    Name: 'NAME',
    Target: 'TARGET',
    // With the target of a link behind it.
    Shown: 'NAME',
  },
  columns: ['Mode', 'Owner', 'Size', 'Modified', 'Layer', 'Shown'],
  rows: (file) => {
    const Name = nameOf(file)
    const Target = file.target === undefined ? '' : shownName(bytesOf(file.target, file.targetBase64))
    return [
      {
        Mode: `${LETTERS[file.type]}${permissions(file.mode)}`,
        Owner: `${file.uid}:${file.gid}`,
        Size: file.device ? file.device.join(',') : String(file.size),
        Modified: timeText(file.mtime),
        Layer: file.layer ? shortId(file.layer) : '',
        Type: file.type,
        Name,
        Target,
        Shown: Target === '' ? Name : `${Name} -> ${Target}`,
      },
    ]
  },
  id: nameOf,
  json: (file) => file,
} as const satisfies Listing<FileView>

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
