import { Controller, Param, Query, Res } from '@nestjs/common'
import { ApiResponse, ApiTags } from '@nestjs/swagger'
import { API, type ReferrerList, type RepositoryList, type TagList } from '@strata/api'
import { MEDIA } from '@strata/oci'
import type { FastifyReply } from 'fastify'
import type { z } from 'zod'
import { Endpoint } from '../endpoint.js'
import { releaseOnceClosed, type CountBytes } from './answer-memory.js'
import { namedManifest, nameOf, repositoryOf } from './names.js'
import { RegistryService } from './registry.service.js'
import { warningOf } from './warning.js'

const MANIFEST = { schema: { type: 'object' } } as const

/** What the registry has, for the clients of `/v1`: the same services as under `/v2/`. */
@ApiTags('registry')
@Controller()
export class RepositoriesController {
  constructor(private readonly registry: RegistryService) {}

  @Endpoint(API.listRepositories, 'Repositories in pages', ['name_invalid', 'overloaded'])
  async list(
    @Query({ schema: API.listRepositories.query }) { limit, after }: z.infer<typeof API.listRepositories.query>,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const last = after === undefined ? after : repositoryOf(after)
    await this.#page<RepositoryList>(reply, limit, async () => {
      const { repositories, next } = await this.registry.catalog(limit, last)
      return {
        repositories: repositories.map((repository) => ({ name: nameOf(repository) })),
        ...(next === undefined ? {} : { next: nameOf(next) }),
      }
    })
  }

  @Endpoint(API.listTags, 'The tags of a repository in pages', ['name_invalid', 'repository_not_found', 'overloaded'])
  async tags(
    @Param('name', { schema: API.listTags.param }) name: string,
    @Query({ schema: API.listTags.query }) { limit, after }: z.infer<typeof API.listTags.query>,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const repository = repositoryOf(name)
    await this.#page<TagList>(reply, limit, async () => {
      const { tags, ...rest } = await this.registry.tags(repository, { limit, last: after })
      return { repository: nameOf(repository), tags: tags.map((tag) => ({ name: tag })), ...rest }
    })
  }

  @Endpoint(API.getManifest, 'The manifest or index that a name means: its bytes, as they were put', [
    'name_invalid',
    'manifest_not_found',
    'corrupt',
    'overloaded',
  ])
  @ApiResponse({
    status: 200,
    content: {
      [MEDIA.manifest]: MANIFEST,
      [MEDIA.index]: MANIFEST,
      [MEDIA.dockerManifest]: MANIFEST,
      [MEDIA.dockerIndex]: MANIFEST,
    },
  })
  async manifest(
    @Param('ref', { schema: API.getManifest.param }) ref: string,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const { repository, reference } = namedManifest(ref)
    const { held, ...found } = await this.registry.manifest(repository, reference, () => true)
    if (held) releaseOnceClosed(held, reply.raw)
    await reply
      .headers({
        'content-type': found.mediaType,
        'docker-content-digest': found.digest,
        etag: `"${found.digest}"`,
        ...warningOf(found.deprecated, repository, reference),
      })
      .send(held?.bytes)
  }

  @Endpoint(API.listReferrers, 'The manifests whose subject is the one that a name means, in pages', [
    'name_invalid',
    'manifest_not_found',
    'corrupt',
    'overloaded',
  ])
  async referrers(
    @Param('ref', { schema: API.listReferrers.param }) ref: string,
    @Query({ schema: API.listReferrers.query })
    { limit, after, artifactType }: z.infer<typeof API.listReferrers.query>,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const { repository, reference } = namedManifest(ref)
    // A subject may come after its referrers, so one that is named by its digest need not be there.
    const subject =
      'digest' in reference
        ? reference.digest
        : (await this.registry.manifest(repository, reference, () => false)).digest
    await this.#page<ReferrerList>(reply, 0, async (count) => {
      const { referrers, ...rest } = await this.registry.referrers(repository, subject, limit, {
        after,
        artifactType,
        count,
      })
      return {
        subject,
        referrers: referrers.map(({ artifactType: type, annotations, ...one }) => ({
          ...one,
          ...(type === undefined ? {} : { artifactType: type }),
          annotations: { ...annotations },
        })),
        ...rest,
      }
    })
  }

  /** A page counts with those of `/v2/` until its client has it, or is gone. */
  async #page<T extends RepositoryList | TagList | ReferrerList>(
    reply: FastifyReply,
    names: number,
    build: (count: CountBytes) => Promise<T>,
  ): Promise<void> {
    const held = await this.registry.page(names, build)
    releaseOnceClosed(held, reply.raw)
    await reply.header('content-type', 'application/json; charset=utf-8').send(held.bytes)
  }
}
