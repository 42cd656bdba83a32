import type { ImageSummary, RemoveImageResult } from '@strata/api'
import type { Command } from 'commander'
import type { Client } from '../client.js'
import { type Context } from '../context.js'
import { every } from '../every.js'
import { shortId, splitName } from '../format/table.js'
import { ago, goTime, humanSize } from '../format/units.js'
import { printList, withListOptions, type ListOptions } from '../list.js'
import { allPages } from '../pages.js'
import { print } from '../terminal.js'

export function imageCommands(program: Command, context: Context): void {
  withListOptions(program.command('images').description('list images')).action(async (options: ListOptions) => {
    const images = await allImages(context.client())
    const now = Date.now()
    printList(images, options, {
      titles: {
        Repository: 'REPOSITORY',
        Tag: 'TAG',
        Digest: 'DIGEST',
        ID: 'IMAGE ID',
        CreatedSince: 'CREATED',
        CreatedAt: 'CREATED AT',
        Size: 'SIZE',
      },
      columns: ['Repository', 'Tag', 'ID', 'CreatedSince', 'Size'],
      rows: (image) =>
        (image.names.length > 0 ? image.names : ['']).map((name) => {
          const [Repository, Tag] = splitName(name)
          return {
            Repository,
            Tag,
            Digest: image.digest,
            ID: shortId(image.id),
            CreatedSince: ago(image.created, now),
            CreatedAt: goTime(image.created),
            Size: humanSize(image.size),
          }
        }),
      id: (image) => shortId(image.id),
    })
  })

  program
    .command('tag')
    .description('give an image another name')
    .argument('<image>')
    .argument('<name>')
    .action(async (image: string, name: string) => {
      await context.client().call('tagImage', { params: { ref: image }, body: { name } })
    })

  program
    .command('rmi')
    .description('take names away from images; with its last name an image goes')
    .argument('<image...>')
    .option(
      '-f, --force',
      'also by an id that has several names, and while a node has not told which containers it has',
    )
    .action(async (names: string[], { force }: { force?: boolean }) => {
      const results = new Map<string, RemoveImageResult>()
      await every(
        names,
        async (name) =>
          void results.set(
            name,
            await context.client().call('removeImage', { params: { ref: name }, query: { force: force ?? false } }),
          ),
        (name) => {
          for (const untagged of results.get(name)?.untagged ?? []) print(`Untagged: ${untagged}`)
          for (const deleted of results.get(name)?.deleted ?? []) print(`Deleted: ${deleted}`)
        },
      )
    })

  program
    .command('mount')
    .description("mount an image's root read-only, and print where")
    .argument('<image>')
    .action(async (image: string) => {
      print((await context.client().call('mountImage', { params: { ref: image } })).path)
    })

  program
    .command('umount')
    .description('undo mount')
    .argument('<image...>')
    .action(async (names: string[]) => {
      await every(names, (name) => context.client().call('umountImage', { params: { ref: name } }), print)
    })
}

/** All pages. Each page is sorted in itself only, so what was gathered is sorted here again. */
async function allImages(client: Client): Promise<ImageSummary[]> {
  const images = await allPages(async (page) => {
    const { images: items, next } = await client.call('listImages', { query: { ...page } })
    return { items, next }
  })
  const newest = (a: ImageSummary, b: ImageSummary) => compare(b.created ?? '', a.created ?? '')
  return images.sort((a, b) => Number(b.names.length > 0) - Number(a.names.length > 0) || newest(a, b))
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
