import type { Command } from 'commander'
import type { Context } from '../context.js'
import { humanSize } from '../format/units.js'
import { printPages, withListOptions, type ListOptions } from '../list.js'
import { pagesOf } from '../pages.js'

/** What the registry has. Lists are printed page after page: a repository may have 100,000 tags. */
export function repositoryCommands(program: Command, context: Context): void {
  withListOptions(
    program.command('repos').description('list repositories, also those without an image that can be launched'),
    'names',
  ).action(async (options: ListOptions) => {
    const client = context.client()
    const pages = pagesOf(async (page) => {
      const { repositories: items, next } = await client.call('listRepositories', { query: { ...page } })
      return { items, next }
    })
    await printPages(pages, options, {
      titles: { Repository: 'REPOSITORY' },
      columns: ['Repository'],
      rows: ({ name }) => [{ Repository: name }],
      id: ({ name }) => name,
      json: (one) => one,
    })
  })

  withListOptions(
    program.command('tags').description('list the tags of a repository').argument('<repository>'),
    'tags',
  ).action(async (repository: string, options: ListOptions) => {
    const client = context.client()
    const pages = pagesOf(async (page) => {
      const { tags, next, ...of } = await client.call('listTags', { params: { name: repository }, query: { ...page } })
      return { items: tags.map((tag) => ({ ...of, ...tag })), next }
    })
    await printPages(pages, options, {
      titles: { Repository: 'REPOSITORY', Tag: 'TAG' },
      columns: ['Repository', 'Tag'],
      rows: (tag) => [{ Repository: tag.repository, Tag: tag.name }],
      id: ({ name }) => name,
      json: (tag) => tag,
    })
  })

  withListOptions(
    program
      .command('referrers')
      .description('list what refers to a manifest: signatures, attestations, SBOMs')
      .argument('<name>', 'with a tag or a digest'),
    'digests',
  )
    .option('--artifact-type <type>', 'only those of this type')
    .action(async (name: string, options: ListOptions & { artifactType?: string }) => {
      const client = context.client()
      const { artifactType } = options
      let ref = name
      const pages = pagesOf(async (page) => {
        const { referrers, next, subject } = await client.call('listReferrers', {
          params: { ref },
          query: { ...page, artifactType },
        })
        // All pages are of one subject, also if the tag is moved meanwhile.
        ref = `${name.split('@', 1)[0] ?? name}@${subject}`
        return { items: referrers, next }
      })
      await printPages(pages, options, {
        titles: {
          Digest: 'DIGEST',
          ArtifactType: 'ARTIFACT TYPE',
          Size: 'SIZE',
          MediaType: 'MEDIA TYPE',
          Annotations: 'ANNOTATIONS',
        },
        columns: ['Digest', 'Size', 'ArtifactType'],
        rows: ({ digest, artifactType: type, size, mediaType, annotations }) => [
          {
            Digest: digest,
            ArtifactType: type ?? '',
            Size: humanSize(size),
            MediaType: mediaType,
            // As docker shows labels in a row.
            Annotations: Object.entries(annotations)
              .map((pair) => pair.join('='))
              .join(','),
          },
        ],
        id: ({ digest }) => digest,
        json: (referrer) => referrer,
      })
    })
}
